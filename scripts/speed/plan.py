"""How much is measured."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from msgspec import Struct


class Plan(Struct, frozen=True, kw_only=True):
    """How much is measured.

    Args:
        rounds: How often everything but memory is.
        seconds: How long each stretch of tokens that trickle is watched, at least.
        sessions: In crowds of these sizes.
        flat_out: Sessions that get tokens as fast as they can, for each stretch of it.
        endless: Sessions that get them so and interrupt, for each stretch of it.
        step: By which share a crowd grows, to find how many sessions one core serves.
        cleanups: Interrupts of turns whose cleanup is slow, at least, in each crowd and round.
        interrupts: How many there are behind a 99th percentile, at least, of each server, in all rounds.
    """

    rounds: int = 3
    seconds: float = 4.0
    sessions: Sequence[int] = (1, 100, 500)
    flat_out: Sequence[int] = (1, 200)
    endless: Sequence[int] = (1, 10)
    step: float = 0.04
    cleanups: int = 10
    interrupts: int = 1000

    @property
    def interrupts_a_round(self) -> int:
        """The same of one round."""
        return ceil(self.interrupts / self.rounds)
