"""Audio clock of a session: counts received sound, and limits its rate."""

from __future__ import annotations

from bargein_protocol import AudioFormat
from bargein_protocol.audio import MAX_AUDIO_MS

from .floor import CLOCK_RATE

ADVANCE_S = 5.0
"""Sound that a client may send faster than it can be said."""
CLOCK_DRIFT = 1.01
"""Rate of a client's clock, relative to the server's, up to which its sound never counts as too fast."""


class AudioClock:
    """Audio clock of one session.

    Attributes:
        position: Samples received over the session's life, at `CLOCK_RATE`, whatever the input's rate.
    """

    __slots__ = ("_base", "_credit", "_credit_at", "_format", "_received", "position")

    def __init__(self) -> None:
        self.position = 0
        self._format: AudioFormat | None = None
        self._base = self._received = 0
        self._credit, self._credit_at = ADVANCE_S, 0.0

    def start(self, audio_format: AudioFormat, now: float) -> None:
        """Go on from the present position with another input."""
        self._format, self._base, self._received = audio_format, self.position, 0
        self._credit_at = now

    def fault(self, audio: bytes) -> str | None:
        """Return the reason to refuse a piece of audio, None for a legal one."""
        assert self._format is not None
        if len(audio) % self._format.sample_bytes:
            return "expected whole samples: an even number of bytes"
        if len(audio) > self._format.bytes_of(MAX_AUDIO_MS):
            return f"expected at most {MAX_AUDIO_MS} ms of audio in one event"
        return None

    def take(self, audio: bytes, now: float) -> bool:
        """Count a piece of audio; return False when it came too fast."""
        assert self._format is not None
        before = self.position
        self._received += len(audio) // self._format.sample_bytes
        self.position = self._base + self._received * CLOCK_RATE // self._format.rate
        credit = min(self._credit + (now - self._credit_at) * CLOCK_DRIFT, ADVANCE_S)
        self._credit, self._credit_at = credit - (self.position - before) / CLOCK_RATE, now
        return self._credit >= 0
