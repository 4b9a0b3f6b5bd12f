"""Shutdown of a server's sessions, in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from bargein_protocol.errors import RESTART

from ..settings import Settings
from .elsewhere import Elsewhere
from .hearing.ears import Ears
from .host import SessionHost
from .keeper import Keeper
from .ports import Closable
from .stopping import POLL_S, Stopping, turns_over, wait_until

if TYPE_CHECKING:
    import httpx2

# Clients that a restarted server can accept per second, handshakes included.
RECONNECTS_PER_S = 1000.0


async def _move_idle(registry: StoppingRegistry, elsewhere: Elsewhere, deadline: float) -> None:
    """Give each idle session to the next process, until a deadline."""
    while True:
        for host in registry:
            if not host.core.busy:
                await elsewhere.move(host)
        if not len(registry) or registry.loop.time() >= deadline or registry.stopping.hurried.is_set():
            return
        await asyncio.sleep(POLL_S)


class StoppingRegistry(Protocol):
    """The parts of the session registry that its shutdown uses."""

    draining: bool
    settings: Settings
    loop: asyncio.AbstractEventLoop
    stopping: Stopping
    abandoned: set[asyncio.Task[Any]]
    background: set[asyncio.Task[Any]]
    streams: set[Closable]
    keeper: Keeper | None
    ears: Ears | None
    elsewhere: Elsewhere | None

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[SessionHost]: ...

    def take_http_client(self) -> httpx2.AsyncClient | None:
        """Return and forget the HTTP client, if one was made."""
        ...


async def shut_down(registry: StoppingRegistry) -> int:
    """Stop in order: drain, end the remaining turns, release resources.

    Every client is asked to reconnect after a random time, so that they do not all come together. Turns have
    `drain_s` to complete; then they fail with `shutdown`. Their cleanups have the usual bound, in which tools
    that outlived their turns may finish. A second request to stop ends these waits. Cancelling it leaves the
    rest undone.

    Returns:
        The number of turn tasks that have not ended. They cannot be killed: only the end of the process
        ends them.
    """
    registry.draining = True
    settings, stopping = registry.settings, registry.stopping
    elsewhere, deadline = registry.elsewhere, registry.loop.time() + settings.drain_s
    moves = elsewhere is not None and elsewhere.has_successor
    if elsewhere is not None and moves:
        await _move_idle(registry, elsewhere, deadline)
    else:
        spread_s = max(1.0, len(registry) / RECONNECTS_PER_S)
        for host in registry:
            host.act(host.core.drain, random.uniform(0, spread_s))
        await turns_over(registry, deadline, stopping.hurried)
    for host in registry:
        host.act(host.core.shut_down)
    if registry.keeper is not None:
        await registry.keeper.flush()  # clients learn of the ends when these are stored
    tasks = {task for host in registry for task in host.tasks()} | registry.abandoned | registry.background
    kill_s = settings.cleanup_kill_s
    await wait_until(tasks, settings.cleanup_grace_s + kill_s, stopping.hurried)
    if registry.background:
        for task in registry.background:
            task.cancel()
        await wait_until(registry.background, kill_s, stopping.hurried)
    if stopping.hurried.is_set() and (rest := {task for task in tasks if not task.done()}):
        await asyncio.wait(rest, timeout=kill_s)
    if elsewhere is not None and moves:
        await _move_idle(registry, elsewhere, 0.0)
    for stream in tuple(registry.streams):
        stream.close(RESTART)
    if registry.ears is not None:
        await registry.ears.shut_down()
    client = registry.take_http_client()
    if client is not None:
        await client.aclose()
    for host in registry:
        host.telemetry.closed("shutdown")
    if registry.keeper is not None:
        await registry.keeper.stop(stopping.hurried)
    return sum(not task.done() for task in tasks)
