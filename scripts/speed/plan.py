"""How much is measured."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from msgspec import Struct


class Plan(Struct, frozen=True, kw_only=True):
    """How much is measured.

    Args:
        rounds: How often everything is but memory and the sessions of a core.
        seconds: How long each stretch of tokens that trickle is watched, at least.
        sessions: In crowds of these sizes.
        flat_out: Sessions that get tokens as fast as they can, for each stretch of it.
        endless: Sessions that get them so and interrupt, for each stretch of it.
        looks: How often is looked whether a core serves a crowd.
        step: By which share such a crowd grows or shrinks in the end.
        cleanups: Interrupts of turns whose cleanup is slow, at least, in each crowd, in all rounds.
        interrupts: How many there are behind a 99th percentile, at least, of each server, in all rounds.
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
        """The same of one round."""
        return ceil(self.interrupts / self.rounds)

    @property
    def cleanups_a_round(self) -> int:
        """The same of one round."""
        return ceil(self.cleanups / self.rounds)
