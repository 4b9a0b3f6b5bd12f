"""How much a client may send in a time.

Reading is never paused, so that an interrupt is read whatever else is going on (contract 12); a limit
on messages and bytes takes the place of that pause.
"""

from __future__ import annotations

BURST_S = 2.0
"""A client that was quiet may send what this many seconds allow at once."""


class TokenBucket:
    """A rate with a burst (the token bucket of RFC 2697, with one rate).

    Args:
        rate: Units a second.
        now: The time in seconds.
    """

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._burst = rate * BURST_S
        self._level = self._burst
        self._at = now

    def take(self, amount: float, now: float) -> bool:
        """Take some; False when that is more than is there, and then nothing is taken."""
        level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if amount > level:
            self._level = level
            return False
        self._level = level - amount
        return True
