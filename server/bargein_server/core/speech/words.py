"""Words of the user: whether they are speech, or only agreement."""

from __future__ import annotations

from msgspec import Struct

from .backchannels import is_agreement, normalised

MAX_NO_SPEECH = 0.75


class Transcript(Struct, frozen=True):
    """Words of a sound.

    Args:
        text: The words; empty for none.
        no_speech: The recogniser's probability that the sound is no speech.
        language: The recognised language as a BCP 47 tag; empty when the recogniser does not detect it.
    """

    text: str = ""
    no_speech: float = 0.0
    language: str = ""


def is_speech(transcript: Transcript) -> bool:
    """Return whether a sound was words, and not a cough or a hum."""
    return transcript.no_speech <= MAX_NO_SPEECH and bool(normalised(transcript.text))


def is_backchannel(transcript: Transcript, language: str = "") -> bool:
    """Return whether words only show that the user listens.

    Args:
        transcript: The words.
        language: Language of the session as a BCP 47 tag; the recognised one counts before it.
    """
    return is_agreement(transcript.text, transcript.language or language)
