"""Formats of audio and detection of turns, as a session negotiates them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .types import Milliseconds, Name

MAX_RATE = 384_000
RATES = (8_000, 16_000, 24_000, 48_000)
"""Rates of speech that every server with ears takes, in samples per second."""
ENCODINGS = {"pcm16": 2, "mulaw": 1, "alaw": 1}
"""Bytes of a sample by encoding."""
MAX_AUDIO_MS = 1000
"""Longest sound of one `input.audio`, in milliseconds."""

Rate = Annotated[int, Meta(ge=1, le=MAX_RATE)]
Probability = Annotated[float, Meta(ge=0, le=1)]


class AudioFormat(Struct, frozen=True, kw_only=True):
    """Format of mono audio.

    Args:
        encoding: `pcm16`, little-endian, or `mulaw` or `alaw` (G.711).
        rate: Samples per second.
    """

    encoding: Name = "pcm16"
    rate: Rate

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample; 0 for an unknown encoding."""
        return ENCODINGS.get(self.encoding, 0)

    def bytes_of(self, ms: int) -> int:
        """Return the bytes of `ms` milliseconds of sound, in whole samples."""
        return self.rate * ms // 1000 * self.sample_bytes


class TurnDetection(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Detection of the start and the end of the user's speech.

    Args:
        type: `server`: the server detects speech. `none`: push to talk; the client sends `input.commit`.
        silence_ms: Silence that ends the speech; None for the server's setting, like the next two.
        threshold: Probability of speech from which a sound counts as speech.
        prefix_ms: Sound before the start of the speech that is transcribed as well.
        create_turn: Whether the end of the speech asks for a turn.
        interrupt: Whether speech holds and ends a running turn.
    """

    type: Literal["server", "none"] = "server"
    silence_ms: Milliseconds | None = None
    threshold: Probability | None = None
    prefix_ms: Milliseconds | None = None
    create_turn: bool = True
    interrupt: bool = True


class SessionAudio(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Audio of a session: the client's wishes, and the server's grant.

    Args:
        input: Format of `input.audio`; None when the client sends none, or the server takes none.
        output: Format of `audio.delta`; None when the client gets none.
        turn_detection: Detection of turns in the input.
        language: Language of the user's speech as a BCP 47 tag; None for the server's.
        at_ms: Position of the audio clock at which the input begins, of the server alone; None for 0.
    """

    input: AudioFormat | None = None
    output: AudioFormat | None = None
    turn_detection: TurnDetection | None = None
    language: Name | None = None
    at_ms: Milliseconds | None = None
