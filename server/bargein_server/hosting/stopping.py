"""Requests to stop a server, and waits that they cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from contextvars import ContextVar
from typing import Any, Protocol

from ..core.session import Session

# Interval in which a draining server polls whether slow clients have taken their last frames.
POLL_S = 0.05

SERVER_DRAINS: ContextVar[bool] = ContextVar("SERVER_DRAINS", default=False)
"""Whether the server of this process ends the turns itself, before it closes connections."""


class Stopping:
    """Requests to stop: the first one stops, the second one hurries.

    Attributes:
        asked: Set by the first request. The server stops starting, or gives its turns `drain_s`.
        hurried: Set by the second request. No wait of the shutdown goes on.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()


async def wait_until(
    tasks: Collection[asyncio.Future[Any]],
    timeout_s: float,
    cut: asyncio.Event,
    return_when: str = asyncio.ALL_COMPLETED,
) -> None:
    """Wait for tasks, at most `timeout_s` seconds and until `cut` is set.

    Like `asyncio.wait` it neither cancels a task nor raises an error of one.
    """
    if not tasks or cut.is_set():
        return
    over = asyncio.create_task(_over(tasks, return_when))
    cutting = asyncio.create_task(cut.wait())
    try:
        await asyncio.wait({over, cutting}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        over.cancel()
        cutting.cancel()


async def _over(tasks: Collection[asyncio.Future[Any]], return_when: str) -> None:
    await asyncio.wait(tasks, return_when=return_when)


class StoppingHost(Protocol):
    """The parts of a session's host that a draining server looks at.

    Attributes:
        core: The session.
    """

    core: Session

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of its turns."""
        ...


async def turns_over(hosts: Iterable[StoppingHost], deadline: float, hurried: asyncio.Event) -> None:
    """Wait until no turn runs, waits, or has frames to write.

    Args:
        hosts: The sessions; iterated again and again.
        deadline: Time of the event loop at which the wait ends.
        hurried: Ends the wait.
    """
    loop = asyncio.get_running_loop()
    while any(host.core.busy for host in hosts) and (left := deadline - loop.time()) > 0:
        if hurried.is_set():
            return
        running = [task for host in hosts for task in host.tasks() if not task.done()]
        if running:
            await wait_until(running, left, hurried, asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(min(left, POLL_S))
