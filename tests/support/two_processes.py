"""Two servers in one event loop that share their sessions, as two workers do.

async with pair(folder, agent) as (asked, owner):
    async with owner.connect() as first, asked.connect() as second:
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from bargein_server import Agent
from bargein_server.cluster.place import Place, new_name
from bargein_server.stores.interface import Store
from live_server import Serving, WireKind, counting, serving

Pair = Callable[..., AbstractAsyncContextManager[tuple[Serving, Serving]]]


@asynccontextmanager
async def pair(
    folder: Path, agent: Agent = counting, asked_wire: WireKind = "transport", **options: Any
) -> AsyncIterator[tuple[Serving, Serving]]:
    """Run the asked server and the owner until the block ends.

    Args:
        folder: The private folder of their sockets.
        agent: The agent of both.
        asked_wire: The wire of the asked server; `asgi` has no socket to hand over.
        options: See `serving`; `store` makes a store for each.
    """
    store: Callable[[], Store] | None = options.pop("store", None)
    async with AsyncExitStack() as stack:
        asked, owner = [
            await stack.enter_async_context(
                serving(
                    agent,
                    wire,
                    place=Place(new_name(), str(folder), number, 2),
                    store=store() if store is not None else None,
                    **options,
                )
            )
            for number, wire in enumerate((asked_wire, "transport"))
        ]
        yield asked, owner
