"""Waiting: for the next event of an inbox, and for an answer that several tasks may await."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from .errors import BargeinError
from .events import SessionEvent
from .inbox import Inbox

T = TypeVar("T")


async def settled(future: asyncio.Future[T | BargeinError]) -> T:
    """Wait for an answer and return it, or raise it when it is an error.

    Any number of tasks may wait. Cancelling one leaves the answer to the others. Errors travel as
    results because nobody may ask for them, and asyncio reports an exception that is never asked for.
    """
    result = await asyncio.shield(future)
    if isinstance(result, BargeinError):
        raise result.with_traceback(None)
    return result


class Feed:
    """The asynchronous side of an inbox. One task reads it at a time.

    Args:
        inbox: Where the events wait.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._closed = False
        self._error: BargeinError | None = None
        self._waiter: asyncio.Future[None] | None = None
        inbox.notify = self._wake

    def close(self, error: BargeinError | None) -> None:
        """Nothing more comes: what waits can be read, then `next` raises `error` or returns None."""
        if not self._closed:
            self._closed, self._error = True, error
            self._wake()

    async def next(self) -> SessionEvent | None:
        """Return the next event, None at the end.

        Cancelling is safe: an event is taken in the step in which it is returned.

        Raises:
            RuntimeError: Another task waits here.
            BargeinError: The reason of the end, when there is one.
        """
        while (event := self._inbox.take()) is None:
            if self._closed:
                if self._error is not None:
                    raise self._error.with_traceback(None)
                return None
            if self._waiter is not None:
                raise RuntimeError("expected one task to read the events, got a second one")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return event

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
