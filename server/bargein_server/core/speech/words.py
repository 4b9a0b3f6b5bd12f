"""Words of the user: whether they are speech, or only agreement."""

from __future__ import annotations

from msgspec import Struct

MAX_NO_SPEECH = 0.75
MAX_BACKCHANNEL = 3
"""Words of the longest backchannel."""

BACKCHANNELS = frozenset({
    "ah", "aha", "alright", "cool", "good", "great", "hm", "hmm", "hmmm", "huh", "i", "mhm", "mm", "mmhm",
    "mmm", "nice", "oh", "ok", "okay", "right", "see", "sure", "true", "uh", "uhhuh", "uhuh", "um", "wow",
    "yeah", "yep", "yes", "yup",
})  # fmt: skip
"""Words that show that the user listens. "No", "stop" and "wait" are not among them."""


class Transcript(Struct, frozen=True):
    """Words of a sound.

    Args:
        text: The words; empty for none.
        no_speech: The recogniser's probability that the sound is no speech.
    """

    text: str = ""
    no_speech: float = 0.0


def _words(text: str) -> list[str]:
    kept = "".join(char for char in text.casefold() if char.isalnum() or char.isspace())
    return kept.split()


def is_speech(transcript: Transcript) -> bool:
    """Return whether a sound was words, and not a cough or a hum."""
    return transcript.no_speech <= MAX_NO_SPEECH and bool(_words(transcript.text))


def is_backchannel(transcript: Transcript) -> bool:
    """Return whether words only show that the user listens."""
    words = _words(transcript.text)
    return len(words) <= MAX_BACKCHANNEL and all(word in BACKCHANNELS for word in words)
