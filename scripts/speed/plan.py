"""Size of the measurement."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from msgspec import Struct


class Plan(Struct, frozen=True, kw_only=True):
    """Size of the measurement.

    Args:
        rounds: Number of rounds of everything but memory and the sessions of a core.
        seconds: Minimum duration of a segment with tokens at a steady rate.
        sessions: Sizes of the crowds.
        flat_out: Sessions with tokens at full speed, for each segment of it.
        endless: Sessions with tokens at full speed that interrupt, for each segment of it.
        looks: Number of crowds in the search for the sessions of a core.
        step: Final step of that search, as a share of the size.
        cleanups: Minimum number of interrupts with a slow cleanup, per crowd, in all rounds.
        interrupts: Minimum number of interrupts behind a 99th percentile, per server, in all rounds.
    """

    rounds: int = 10
    seconds: float = 1.5
    sessions: Sequence[int] = (1, 100, 500)
    flat_out: Sequence[int] = (1, 200)
    endless: Sequence[int] = (1, 10)
    looks: int = 17
    step: float = 0.03
    cleanups: int = 30
    interrupts: int = 1000

    @property
    def interrupts_a_round(self) -> int:
        """Minimum number of interrupts behind a percentile, per round."""
        return ceil(self.interrupts / self.rounds)

    @property
    def cleanups_a_round(self) -> int:
        """Minimum number of interrupts with a slow cleanup, per round."""
        return ceil(self.cleanups / self.rounds)
