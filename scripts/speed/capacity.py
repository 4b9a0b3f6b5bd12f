"""Search for the largest number of sessions that one core serves.

A token costs less the busier the core is: 23 µs with 500 sessions and 16 µs with 1,200 on one machine, in the
kernel and in Python alike. The CPU time per token with few sessions therefore underestimates the limit, and
between the estimate and the limit chance decides whether a crowd is served. The search starts above the limit
and moves around it; see scripts/speed/decisions/capacity-search.md.
"""

from __future__ import annotations

import asyncio
import time

from msgspec import Struct

from .crowd import Crowd
from .figures import Figures, quantile
from .floor import RATE
from .plan import Plan
from .processes import Broken

GAP_S = 0.05
"""Bound of the 99th percentile of the gaps between tokens, in seconds."""
TOKENS_PER_S = 49.0
"""Minimum rate of every session, of 50 tokens/s, so that none falls behind its model."""
BEYOND = 1.6
"""First size, as a multiple of the estimate from the CPU time per token with few sessions."""
STRIDE = 4
"""Factor of the first steps."""
APPROACH = 5
"""First steps of the search, which only approach the limit and give no figures."""
LOOK_S = 2.0
SETTLE_S = 0.5
WATCHED = 100
"""Clients that record gaps; more would slow down the load without a better figure."""


class Look(Struct, frozen=True):
    """Result of one crowd size, as its clients measured it.

    Args:
        size: Number of sessions.
        gap_s: 99th percentile of the gaps between their tokens, in seconds.
        tokens_per_s: Rate of the slowest session.
        load: Utilization of the load generator's core.
    """

    size: int
    gap_s: float
    tokens_per_s: float
    load: float

    @property
    def served(self) -> bool:
        """Return whether every client got its tokens in time."""
        return self.gap_s <= GAP_S and self.tokens_per_s >= TOKENS_PER_S


class Staircase:
    """Sizes to try: larger after a success, smaller after a failure.

    The sizes stay around the limit, which moves with the speed of the machine, and other servers can be
    measured in between. (H. Levitt: Transformed up-down methods in psychoacoustics, 1971.)

    Args:
        first: First size.
        step: Final step as a share of the size; the first step is `STRIDE` times as large and halves at each
            reversal.

    Attributes:
        size: Next size.
        looks: Sizes tried so far.
        turned: Reversals so far.
    """

    def __init__(self, first: int, step: float) -> None:
        self.size = first
        self.looks = 0
        self.turned = 0
        self._step = step
        self._share = step * STRIDE
        self._up: bool | None = None

    def go_on(self, served: bool) -> None:
        """Record whether `size` was served, and choose the next size."""
        if self._up not in (None, served):
            self.turned += 1
            self._share = max(self._step, self._share / 2)
        self._up = served
        self.looks += 1
        factor = 1 + self._share
        self.size = (
            max(self.size + 1, round(self.size * factor))
            if served
            else max(1, min(self.size - 1, round(self.size / factor)))
        )


class Capacity:
    """Segments that search for the largest number of sessions.

    Args:
        plan: Number and size of the measurements.
        figures: Source of the CPU time per token, and destination of the sizes around the limit.
    """

    def __init__(self, plan: Plan, figures: Figures) -> None:
        self._plan = plan
        self._figures = figures
        self._staircases: dict[str, Staircase] = {}

    async def look(self, crowd: Crowd) -> None:
        """Measure a crowd of the next size.

        Raises:
            Broken: The search ended without a reversal.
        """
        name = crowd.server.name
        if name not in self._staircases:
            per_token = self._figures.get(f"cpu per token {max(self._plan.sessions)}", name)
            self._staircases[name] = Staircase(max(1, int(BEYOND / (RATE * per_token))), self._plan.step)
        staircase = self._staircases[name]
        found = await look(crowd, staircase.size)
        staircase.go_on(found.served)
        if staircase.looks > APPROACH:
            self._figures.note("capacity", name, found.size)
            self._figures.note("load capacity", name, found.load)
        if staircase.looks == self._plan.looks and not staircase.turned:
            raise Broken(f"{name}: up to {found.size} sessions, and no end")


async def look(crowd: Crowd, size: int) -> Look:
    """Measure a crowd of this size."""
    more = size - len(crowd.clients)
    if more > 0:
        await crowd.grow(more)
    else:
        await crowd.shrink(-more)
    await crowd.start("trickle")
    await asyncio.sleep(SETTLE_S)  # what the beginning delayed is no figure
    gaps: list[float] = []
    for client in crowd.clients[:: -(-size // WATCHED)]:
        client.watch(gaps)
    before = [client.tokens for client in crowd.clients]
    own, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(LOOK_S)
    lasted = time.perf_counter() - began
    fewest = min(client.tokens - had for client, had in zip(crowd.clients, before, strict=True))
    load = (time.process_time() - own) / lasted
    for client in crowd.clients:
        client.watch(None)
    return Look(size, quantile(sorted(gaps), 0.99) if gaps else lasted, fewest / lasted, load)
