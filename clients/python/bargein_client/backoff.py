"""How long to wait before the next attempt to connect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential growth with full jitter, so that many clients of one server do not come back at once.

    The defaults are those of the protocol (section 14, duty 10). See "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015.

    Args:
        base_s: The longest first delay.
        cap_s: The longest delay.
        growth: How much longer each delay may be than the one before.
    """

    base_s: float = 0.5
    cap_s: float = 30.0
    growth: float = 2.0

    def longest(self, attempt: int) -> float:
        """Return the bound of the delay before attempt number `attempt`, from 1, in seconds."""
        # Beyond 64 doublings any bound is at its cap, and a float would overflow in the end.
        return min(self.cap_s, self.base_s * self.growth ** min(attempt - 1, 64))

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """Return a delay in seconds; `random` gives a number from 0 to below 1."""
        return random() * self.longest(attempt)
