"""Delays between attempts to connect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential backoff with full jitter.

    The jitter spreads the reconnects of a server's many clients. The defaults are those of the protocol
    (section 14, duty 10). See "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        base_s: Upper bound of the first delay, in seconds.
        cap_s: Upper bound of every delay, in seconds.
        growth: Factor between the bounds of successive delays.
    """

    base_s: float = 0.5
    cap_s: float = 30.0
    growth: float = 2.0

    def longest(self, attempt: int) -> float:
        """Return the upper bound of an attempt's delay in seconds, from attempt 1."""
        # After 64 doublings every bound is at its cap; a float would overflow eventually.
        return min(self.cap_s, self.base_s * self.growth ** min(attempt - 1, 64))

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """Return a delay in seconds; `random` returns a number from 0 to below 1."""
        return random() * self.longest(attempt)
