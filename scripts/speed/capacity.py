"""Number of sessions that one core serves.

A token costs less on a busier core, in the kernel as well as in Python: 23 µs with 500 sessions and 16 µs
with 1,200 on one machine. So, beyond the number of sessions at which the cost with few sessions predicts a
full core, the load hardly grows for another half of them, and chance decides whether such a crowd is served.
The search looks for the largest crowd that is served: it begins beyond that border and then moves around it.
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
"""99 of 100 gaps between tokens are not longer,"""
TOKENS_PER_S = 49.0
"""and every session gets so many tokens on average, of 50: none falls behind its model."""
BEYOND = 1.6
"""Where to begin, as a share of the sessions whose tokens would fill the core if it got no faster."""
STRIDE = 4
"""So many steps are one at first."""
APPROACH = 5
"""Looks that only lead to the border, and are no figures."""
LOOK_S = 2.0
SETTLE_S = 0.5
WATCHED = 100
"""So many of the clients note gaps: more would make the load slower, not the figure better."""


class Look(Struct, frozen=True):
    """Result of a crowd of one size.

    Args:
        size: Number of sessions.
        gap_s: 99th percentile of the gaps between tokens.
        tokens_per_s: Tokens per second of the session with the fewest.
        load: Share of a core that the load generator used.
    """

    size: int
    gap_s: float
    tokens_per_s: float
    load: float

    @property
    def served(self) -> bool:
        """Return whether all sessions got their tokens in time."""
        return self.gap_s <= GAP_S and self.tokens_per_s >= TOKENS_PER_S


class Staircase:
    """Sequence of sizes: up after a served one, down after an overload.

    So the sizes stay around the border, which moves with the speed of the machine, and segments of other
    servers can come in between. (H. Levitt: Transformed up-down methods in psychoacoustics, 1971.)

    Args:
        first: The first size.
        step: Final step, as a share of the size; the first step is `STRIDE` times as large, and halved at
            each turning.

    Attributes:
        size: The next size.
        looks: Number of sizes so far.
        turned: Number of turnings so far.
    """

    def __init__(self, first: int, step: float) -> None:
        self.size = first
        self.looks = 0
        self.turned = 0
        self._step = step
        self._share = step * STRIDE
        self._up: bool | None = None

    def go_on(self, served: bool) -> None:
        """Record a verdict on `size` and compute the next one."""
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
    """Segment that searches for the number of sessions, of all servers.

    Args:
        plan: Size of the measurement.
        figures: Source of the processor time per token, and destination of the sizes.
    """

    def __init__(self, plan: Plan, figures: Figures) -> None:
        self._plan = plan
        self._figures = figures
        self._staircases: dict[str, Staircase] = {}

    async def look(self, crowd: Crowd) -> None:
        """Measure a crowd of the next size.

        Raises:
            Broken: It was the last size, and the border was never passed.
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
    """Measure a crowd of this size while it talks."""
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
