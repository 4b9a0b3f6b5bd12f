"""Requests to stop a server, and waits that they cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any


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
    tasks: Collection[asyncio.Task[Any]],
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


async def _over(tasks: Collection[asyncio.Task[Any]], return_when: str) -> None:
    await asyncio.wait(tasks, return_when=return_when)
