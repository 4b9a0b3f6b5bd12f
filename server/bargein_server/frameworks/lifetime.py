"""Parts of an agent that are open while the server runs, such as MCP."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T")


class Lifetime(Generic[T]):
    """Async context that is entered and left by one task of its own.

    The task groups in it demand that. The task has an empty context: entered in a turn, as an agent without
    `startup()` does it, the connections do not end with that turn.

    Args:
        make: Makes the context; it is called again after `shutdown`, or when entering has failed.
    """

    def __init__(self, make: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._make = make
        self._task: asyncio.Task[None] | None = None
        self._entered: asyncio.Future[T]
        self._leave: asyncio.Event

    async def startup(self) -> T:
        """Enter the context unless it is open; return its value or raise.

        A caller that is cancelled leaves the context to the next one.
        """
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._entered, self._leave = loop.create_future(), asyncio.Event()
            self._task = loop.create_task(self._hold(), name="parts of an agent", context=Context())
        return await asyncio.shield(self._entered)

    async def shutdown(self) -> None:
        """Leave the context; its error propagates. Cancelling cancels leaving."""
        task, self._task = self._task, None
        if task is None:
            return
        self._leave.set()
        await task

    async def _hold(self) -> None:
        entered, leave = self._entered, self._leave
        try:
            async with self._make() as value:
                entered.set_result(value)
                await leave.wait()
        except Exception as error:
            if entered.done():
                raise
            entered.set_exception(error)
            entered.exception()  # a caller that was cancelled does not fetch it
        finally:
            entered.cancel()
