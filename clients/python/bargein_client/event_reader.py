"""Asynchronous access to an inbox, and results for several tasks."""

from __future__ import annotations

import asyncio
from typing import TypeVar
from weakref import WeakSet

from .errors import BargeinError
from .events import SessionEvent
from .inbox import Inbox

T = TypeVar("T")


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Check that this is the event loop in which an object was made.

    Raises:
        RuntimeError: It is another one, which nothing would wake.
    """
    try:
        if asyncio.get_running_loop() is loop:
            return
    except RuntimeError:
        pass  # a thread without a loop
    raise RuntimeError(
        "expected a call in the event loop of `connect`, got one in another loop or thread; "
        "use asyncio.run_coroutine_threadsafe or loop.call_soon_threadsafe"
    )


async def shared_result(future: asyncio.Future[T | BargeinError]) -> T:
    """Wait for a result and return it, or raise it if it is an error.

    Any number of tasks may wait, and cancelling one does not affect the others. Errors travel as results,
    because asyncio logs an exception that no task retrieves.
    """
    check_loop(future.get_loop())
    result = await asyncio.shield(future)
    if isinstance(result, BargeinError):
        raise result.with_traceback(None)
    return result


class EventReader:
    """Reads an inbox; one task at a time.

    Args:
        inbox: The inbox to read.
    """

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._error: BargeinError | None = None
        self._waiter: asyncio.Future[None] | None = None
        inbox.notify = self._wake

    def close(self, error: BargeinError | None) -> None:
        """End the stream: then `next` raises `error` or returns None."""
        if not self._closed:
            self._closed, self._error = True, error
            self._wake()

    async def next(self) -> SessionEvent | None:
        """Return the next event; None at the end.

        Cancelling is safe: no event is lost.

        Raises:
            RuntimeError: Another task is reading, or this is another event loop.
            BargeinError: The stream ended with this error.
        """
        check_loop(self._loop)
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


class EventStream:
    """All events of a session; one task iterates at a time."""

    def __init__(self, reader: EventReader) -> None:
        self._reader = reader

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> SessionEvent:
        event = await self._reader.next()
        if event is None:
            raise StopAsyncIteration
        return event


class EventStreams:
    """The streams of one session."""

    def __init__(self) -> None:
        self._readers: WeakSet[EventReader] = WeakSet()
        self._is_closed = False
        self._error: BargeinError | None = None

    def open(self, inbox: Inbox) -> EventStream:
        """Return a stream of the events of an inbox; it ends with the session."""
        reader = EventReader(inbox)
        self._readers.add(reader)
        if self._is_closed:
            reader.close(self._error)
        return EventStream(reader)

    def close(self, error: BargeinError | None) -> None:
        """End all streams, also later ones: with an error, or normally."""
        self._is_closed, self._error = True, error
        for reader in self._readers:
            reader.close(error)
