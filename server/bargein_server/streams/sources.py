"""Reading of sources: in place, or ahead with one task for each source.

An operator that waits for two things at a time (the next item and a timer, or several sources) cannot
await `__anext__` itself. One task for each `__anext__` is wrong: the source's `finally` then runs in
another task than its body, where context variables cannot be reset and cancel scopes cannot be left. So
`Readers` gives a source one task for its whole life, closing included.

The tasks are created at the operator's first step, so in the context of the turn, and what they open
upstream belongs to the turn. `async with Readers(…)` may stand around a `yield`, because it cancels only
its own tasks.

Errors of the operators:

    Exception
    ├── LimitExceeded   a source exceeded its limit
    └── TooSlow         a consumer is too far behind, and nothing more is queued for it
    asyncio.CancelledError
    └── StreamClosed    the stream has no reader any more
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from bargein_server.agent import Contained


class LimitExceeded(Exception):
    """A source exceeded its limit."""


class TooSlow(Exception):
    """A consumer is too many items behind: no more are queued for it."""


class StreamClosed(asyncio.CancelledError):
    """The stream has no reader any more: the producer must stop.

    It is a `CancelledError`, so that it passes through code which retries or logs, in threads too.
    """


READS_PER_YIELD = 256
"""Items that an operator reads in a row before it lets the event loop run."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until all have ended, as `ended` does."""
    tasks = [*tasks]
    for task in tasks:
        task.cancel()
    await ended(tasks)


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait until cancelled tasks have ended.

    Their exceptions count as retrieved. A second cancel would interrupt their cleanup, so this sends none
    of its own. It forwards every further cancel of the caller to the tasks, and waits as long as they
    take. A task that swallows all of them keeps its generator, and so the turn, from ending. The turn is
    then abandoned and counted; no task is leaked.

    Raises:
        CancelledError: The caller was cancelled while it waited; the tasks have ended anyway.
    """
    tasks = [*tasks]
    cut: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cut = error
            for task in pending:
                task.cancel()
    for task in tasks:
        failure(task)
    if cut is not None:
        try:
            raise cut
        finally:
            del cut  # this frame is in its traceback


def failure(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the exception of a task that is done; a cancel is one too.

    A cancelled task loses its own one, whose traceback has frames that hold the task: a cycle.
    """
    try:
        return task.exception()
    except asyncio.CancelledError:
        return asyncio.CancelledError()


class Signal:
    """Wake-up for all current waiters.

    A wake-up without a waiter is lost, so check the condition before a wait and after it. A cancelled
    wait has consumed nothing, unlike `asyncio.wait_for(queue.get(), …)`, which may lose the item and, on
    Python 3.11, the cancel.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[bool]] = set()

    async def wait(self, deadline: float | None = None) -> bool:
        """Wait for `wake`, or for a deadline.

        Args:
            deadline: In seconds on the loop's clock; None waits without a limit.

        Returns:
            False when the deadline came first.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.add(waiter)
        timer = None if deadline is None else loop.call_at(deadline, _settle, waiter, False)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Wake all current waiters; call it on the loop's thread."""
        for waiter in self._waiters:
            _settle(waiter, True)


def _settle(waiter: asyncio.Future[bool], woken: bool) -> None:
    if not waiter.done():
        waiter.set_result(woken)


class ReadBudget:
    """Budget of reads before an operator must yield to the event loop.

    The turn's runner yields to the loop between outputs. An operator that drops or gathers items of a
    source which never suspends produces no outputs, so it must yield itself, or no interrupt is read.
    """

    __slots__ = ("_spent",)

    def __init__(self) -> None:
        self._spent = 0

    def reset(self) -> None:
        """Start anew, because an item was given out."""
        self._spent = 0

    async def spend(self) -> None:
        """Count an item that was read, and yield if the budget is spent.

        Call it with no item in hand, because it may be cancelled.
        """
        self._spent += 1
        if self._spent >= READS_PER_YIELD:
            self._spent = 0
            await asyncio.sleep(0)


T = TypeVar("T")

log: logging.Logger = logging.getLogger("bargein.streams")


class Reading(Generic[T]):
    """Block that iterates over a source and closes it.

        async with Reading(source) as items:
            ...

    `contextlib.aclosing` closes async generators. This also closes objects that have only `close()`, as
    the streams of model SDKs do, and both the source and its iterator. The source is closed in the task
    that leaves the block; errors of closing propagate.
    """

    __slots__ = ("_items", "_source")

    def __init__(self, source: AsyncIterable[T]) -> None:
        self._source = source

    async def __aenter__(self) -> AsyncIterator[T]:
        self._items = aiter(self._source)
        return self._items

    async def __aexit__(self, *_: object) -> None:
        try:
            await close(self._items)
        finally:
            if self._items is not self._source:
                await close(self._source)


async def close(source: object) -> None:
    """Close a source by `aclose` or `close`, if it has one of them."""
    closing = getattr(source, "aclose", None) or getattr(source, "close", None)
    if closing is not None:
        closed = closing()
        if inspect.isawaitable(closed):
            await closed


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """Item of a source.

    Args:
        source: Number of the source.
        value: The item.
        at: Time of its arrival, in seconds on the loop's clock.
    """

    source: int
    value: T
    at: float


@dataclass(frozen=True, slots=True)
class End:
    """End of source number `source`, with `error` if it failed."""

    source: int
    error: BaseException | None


class Readers(Generic[T]):
    """Block that reads sources ahead, each in a task of its own.

        async with Readers(sources, ahead) as readers:
            entry = await readers.next()

    Leaving the block cancels the tasks and waits until every source is closed. An error of a source's
    cleanup propagates from there, unless another error is propagating already.

    Args:
        sources: The sources; reading of all of them begins at once.
        ahead: Number of items of each source that may wait to be taken, at least 1.

    Attributes:
        live: Number of sources whose end has not been taken.
    """

    def __init__(self, sources: Sequence[AsyncIterable[T]], ahead: int) -> None:
        if ahead < 1:
            raise ValueError(f"expected ahead to be at least 1, got {ahead}")
        self.live: int = len(sources)
        self._sources = sources
        self._ahead = ahead
        self._entries: deque[Item[T] | End] = deque()
        self._news = Signal()
        self._rooms = [Signal() for _ in sources]
        self._waiting = [0] * len(sources)
        self._stopped = [False] * len(sources)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Readers[T]:
        self._clock = asyncio.get_running_loop().time
        for number in range(len(self._sources)):
            task = asyncio.create_task(Contained(self._read(number)), name=f"reader {number}")
            task.add_done_callback(lambda task, number=number: self._done(number, task))  # type: ignore[misc]
            self._tasks.append(task)
        return self

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        # Sources that were stopped before are left out: an error of their cleanup is only logged.
        stopping = [
            task
            for task, stopped in zip(self._tasks, self._stopped, strict=True)
            if not stopped and not task.done()
        ]
        self._stopped = [True] * len(self._sources)
        for task in stopping:
            task.cancel()
        try:
            await ended(self._tasks)
            raise_first(failures(stopping), error)
        finally:
            # Errors of the tasks have frames that hold this object, and it holds the tasks: a cycle.
            self._tasks, stopping = [], []
            self._entries.clear()

    def stop(self, number: int) -> None:
        """Cancel the reading of a source and drop its items.

        The block's end waits for its cleanup.
        """
        self._stopped[number] = True
        self._tasks[number].cancel()
        self._entries = deque(entry for entry in self._entries if entry.source != number)

    async def next(self, deadline: float | None = None) -> Item[T] | End | None:
        """Take the oldest entry. Cancelling it takes nothing.

        Args:
            deadline: When to stop waiting, in seconds on the loop's clock.

        Returns:
            None when the deadline has passed.
        """
        while not self._entries:
            if not await self._news.wait(deadline) and not self._entries:
                return None
        entry = self._entries.popleft()
        if isinstance(entry, End):
            self.live -= 1
        else:
            self._waiting[entry.source] -= 1
            self._rooms[entry.source].wake()
        return entry

    async def _read(self, number: int) -> None:
        async with Reading(self._sources[number]) as items:
            while True:
                while self._waiting[number] >= self._ahead:
                    await self._rooms[number].wait()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                if self._stopped[number]:  # it swallowed our cancel
                    return
                self._waiting[number] += 1
                self._entries.append(Item(number, item, self._clock()))
                self._news.wake()

    def _done(self, number: int, task: asyncio.Task[None]) -> None:
        error = failure(task)
        if not self._stopped[number]:
            self._entries.append(End(number, error))
            self._news.wake()
        elif not task.cancelled() and error is not None:
            log.debug("a source that was stopped failed in its cleanup", exc_info=error)


def failures(tasks: Iterable[asyncio.Task[Any]]) -> list[BaseException]:
    """Return the exceptions of tasks that are done, without cancels."""
    found = [task.exception() for task in tasks if not task.cancelled()]
    return [each for each in found if each is not None]


def raise_first(failures: Sequence[BaseException], error: BaseException | None) -> None:
    """Raise the first failure of a cleanup, with the others as notes.

    If `error` is propagating already, all of them become notes of it.
    """
    if isinstance(error, Exception):
        _note(error, failures)
    elif failures:
        _note(failures[0], failures[1:])
        try:
            raise failures[0]
        finally:
            del failures  # this frame is in the error's traceback: a cycle


def _note(error: BaseException, others: Sequence[BaseException]) -> None:
    for other in others:
        error.add_note(f"and in a cleanup: {other!r}")
