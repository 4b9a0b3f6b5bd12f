"""Number and size of the measurements of a run."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from msgspec import Struct


class Plan(Struct, frozen=True, kw_only=True):
    """Number and size of the measurements of a run.

    Args:
        rounds: Rounds of every measurement except memory and sessions on one core.
        seconds: Minimum length of a segment with tokens at a steady rate.
        sessions: Numbers of sessions at a steady rate.
        flat_out: Numbers of sessions that get tokens as fast as possible.
        endless: Numbers of sessions that get tokens as fast as possible and interrupt.
        looks: Steps of the search for sessions on one core.
        step: Share by which the number of sessions changes in the last steps.
        cleanups: Minimum number of interrupts with slow cleanup, per number of sessions, in all rounds.
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
        """Interrupts of one round."""
        return ceil(self.interrupts / self.rounds)

    @property
    def cleanups_a_round(self) -> int:
        """Interrupts with slow cleanup of one round."""
        return ceil(self.cleanups / self.rounds)
