"""Memory of a session: idle, with the log of a turn, and streaming.

Each figure comes from a new process, because a process reuses memory that it freed, and the next session then
seems to cost nothing. A few clients connect first and stay, so that memory for the server's own setup is not
counted. The figure is the growth of the process divided by the number of further sessions.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .crowd import Crowd
from .figures import Figures
from .plan import Plan
from .processes import NAMES, Serve, Served, listening

FIRST = 50
TURN_TOKENS = 500
STREAM_S = 5.0
SETTLE_S = 0.5


async def memory(serve: Serve, plan: Plan, figures: Figures, announce: Callable[[str], None]) -> None:
    """Measure all servers, in as many sessions as the largest crowd has.

    Args:
        serve: Starts a server.
        plan: How much.
        figures: Takes bytes a session.
        announce: Called with the name of the next step.
    """
    size = max(plan.sessions)
    for name in NAMES:
        for measure in (_idle, _streaming):
            announce(f"memory {measure.__name__.strip('_')}, {name}")
            with serve((name,)) as (server,):
                await listening(server)
                async with _first(server):
                    await measure(server, size, figures)


@asynccontextmanager
async def _first(server: Served) -> AsyncIterator[None]:
    async with Crowd(server, FIRST) as crowd:
        await crowd.each_says(f"flat {TURN_TOKENS}")
        await asyncio.sleep(SETTLE_S)
        yield


async def _idle(server: Served, size: int, figures: Figures) -> None:
    before = server.usage.rss_bytes
    async with Crowd(server, size) as crowd:
        await asyncio.sleep(SETTLE_S)
        figures.note("memory idle", server.name, (server.usage.rss_bytes - before) / size)
        # One after the other: what many need at once, while they stream, is no part of what stays.
        await crowd.each_says(f"flat {TURN_TOKENS}")
        await asyncio.sleep(SETTLE_S)
        figures.note("memory turn", server.name, (server.usage.rss_bytes - before) / size)


async def _streaming(server: Served, size: int, figures: Figures) -> None:
    before = server.usage.rss_bytes
    async with Crowd(server, size) as crowd:
        await crowd.start("trickle")
        await asyncio.sleep(STREAM_S)
        figures.note("memory streaming", server.name, (server.usage.rss_bytes - before) / size)
