"""Voice of espeak-ng: any language, robotic, first sound after about 5 ms.

espeak-ng is free software under the GPL-3 that the system installs. A program of its own uses it.
"""

from __future__ import annotations

import ctypes.util
import sys

from .interfaces import NotInstalled
from .speech_program import PROGRAM, SpeechProgram

REMEDY = "apt-get install espeak-ng (Debian, Ubuntu), or brew install espeak-ng (macOS)"


class EspeakVoice(SpeechProgram):
    """Voice of espeak-ng, with the times of words.

    Args:
        name: Name of its voice, such as `en-us` or `de`.
        speed: Speed of speech; 1 is about 175 words per minute.

    Raises:
        NotInstalled: The library is missing.
    """

    def __init__(self, name: str = "en-us", *, speed: float = 1.0) -> None:
        if ctypes.util.find_library("espeak-ng") is None:
            raise NotInstalled(f"espeak-ng is not installed: {REMEDY}")
        command = [sys.executable, "-P", str(PROGRAM), "--engine=espeak", f"--voice={name}"]
        super().__init__([*command, f"--speed={speed}"], rate=22_050)
