"""Parts of voice on this machine, without a key and without a network."""

from __future__ import annotations

from .espeak import EspeakVoice
from .interfaces import Voice, VoiceParts
from .piper import PiperVoice
from .silero import SileroDetector
from .smart_turn import SmartTurnJudge
from .whisper import WhisperRecogniser

VOICES = ("espeak", "piper", "none")


def local_parts(voice: str = "espeak", *, judge: bool = False, workers: int = 1) -> VoiceParts:
    """Return a detector, a recogniser and a voice for English.

    Args:
        voice: `espeak`, `piper`, or `none` to hear only.
        judge: Whether Smart Turn judges the end of turns; answers begin 0.15 s earlier.
        workers: Transcriptions that run at the same time.

    Raises:
        NotInstalled: A package, a program or a model is missing; with the command to install it.
        ValueError: There is no such voice.
    """
    if voice not in VOICES:
        raise ValueError(f"expected a voice of {', '.join(VOICES)}, got {voice!r}")
    speaks: Voice | None = None
    if voice != "none":
        speaks = EspeakVoice() if voice == "espeak" else PiperVoice()
    return VoiceParts(
        detector=SileroDetector(),
        recogniser=WhisperRecogniser(workers=workers),
        voice=speaks,
        judge=SmartTurnJudge() if judge else None,
    )
