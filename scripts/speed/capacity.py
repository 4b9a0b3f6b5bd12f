"""How many sessions one core serves.

A crowd grows from what the processor time per token promises, until a session gets less than it should.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from msgspec import Struct

from .crowd import Crowd
from .figures import Figures, quantile
from .floor import RATE
from .plan import Plan
from .processes import Broken, Served

GAP_S = 0.05
"""99 of 100 gaps between tokens are not longer,"""
TOKENS_PER_S = 49.0
"""and every session gets so many tokens on average, of 50: none falls behind its model."""
LOOKS = 20
CAUTION = 0.9
"""Where to begin, as a share of the sessions whose tokens would fill the core."""
LOOK_S = 2.0
SETTLE_S = 0.3
WATCHED = 100
"""So many of the clients note gaps: more would make the load slower, not the figure better."""


class Look(Struct, frozen=True):
    """What clients got from a crowd of one size.

    Args:
        size: How many they were.
        gap_s: The 99th percentile of the gaps between their tokens.
        tokens_per_s: Of the session that got the fewest.
        load: How busy the load was, as a share of its core.
    """

    size: int
    gap_s: float
    tokens_per_s: float
    load: float

    @property
    def served(self) -> bool:
        """Everyone got what they should."""
        return self.gap_s <= GAP_S and self.tokens_per_s >= TOKENS_PER_S


async def most(first: int, share: float, look: Callable[[int], Awaitable[Look]]) -> Look:
    """Return the largest crowd that is served: up in steps until one is not, or else down.

    Args:
        first: Where to begin.
        share: How large a step is, as a share of the crowd.
        look: Looks at a crowd of a size.

    Raises:
        Broken: There is no end in `LOOKS` steps.
    """
    size, best, down = first, None, False
    for _ in range(LOOKS):
        found = await look(size)
        if found.served and down:
            return found
        if found.served:
            best = found
        elif best is not None:
            return best
        else:
            down = True
        step = max(1, round(size * share))
        size = max(1, size - step) if down else size + step
    raise Broken(f"from {first} to {size} sessions, and no end")


async def capacity(server: Served, plan: Plan, figures: Figures) -> None:
    """Find a server's most sessions, after its processor time per token is known."""
    per_token = figures.values[f"cpu per token {max(plan.sessions)}", server.name][-1]
    async with Crowd(server, 0) as crowd:
        first = max(1, int(CAUTION / (RATE * per_token)))
        found = await most(first, plan.step, lambda size: _look(crowd, size))
    figures.note("capacity", server.name, found.size)
    figures.note("load capacity", server.name, found.load)
    figures.note("capacity gap", server.name, found.gap_s)


async def _look(crowd: Crowd, size: int) -> Look:
    more = size - len(crowd.clients)
    if more > 0:
        await crowd.start("trickle", await crowd.grow(more))
    else:
        await crowd.shrink(-more)
    await asyncio.sleep(SETTLE_S)  # what the handshakes delayed is no figure
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
