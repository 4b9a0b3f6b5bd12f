"""How a framework's tool is called in a turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bargein_server.agent import Turn

T = TypeVar("T")


async def call_tool(turn: Turn, work: Callable[[], Awaitable[T]]) -> T:
    """Call a tool: its exit, or its own cancel, is a failure and not the end."""
    try:
        return await work()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if turn.reason is not None or (task is not None and task.cancelling()):
            raise
        raise RuntimeError("the tool was cancelled, but not by its turn") from error
    except BaseExceptionGroup as error:
        if isinstance(error, Exception):
            raise
        raise RuntimeError("the tool raised a group that contains an exit") from error


def gated(turn: Turn, function: Callable[[], T]) -> Callable[[], T]:
    """Return a function for a thread that does not begin after the turn's end."""

    def begin() -> T:
        if turn.reason is not None:  # it ended while this waited for a free thread
            raise RuntimeError("the turn ended before the tool began")
        return function()

    return begin
