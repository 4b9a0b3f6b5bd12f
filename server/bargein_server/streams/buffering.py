"""Several streams as one, batches, reading ahead, and broadcasts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Generic, Literal, TypeVar

from bargein_server.agent import Contained

from .sources import (
    End,
    Item,
    Readers,
    Reading,
    Signal,
    StreamClosed,
    TooSlow,
    close,
    ended,
    failure,
    failures,
    raise_first,
)

T = TypeVar("T")


async def merged(*sources: AsyncIterable[T], ahead: int = 1) -> AsyncGenerator[T, None]:
    """Yield the items of all sources as they arrive.

    All sources are read at the same time. Items of one source keep their order. Each source is at most
    `ahead` items ahead of the consumer, so a source that never waits cannot starve the others. The stream
    ends when all sources have ended. When a source fails, its error is raised once, after the items that
    came before it, and the others are closed. Cancelling closes all sources at the same time, each in the
    task that read it.

    Args:
        sources: The sources, each read by a task of its own, which this generator owns.
        ahead: Number of items of each source that may wait, at least 1.

    Raises:
        ValueError: `ahead` is less than 1, at the first step.
    """
    async with Readers(sources, ahead) as readers:
        while readers.live:
            entry = await readers.next()
            if isinstance(entry, End):
                if entry.error is not None:
                    try:
                        raise entry.error
                    finally:
                        del entry  # this frame is in the error's traceback: a cycle
            elif entry is not None:
                yield entry.value


async def raced(*sources: AsyncIterable[T], ahead: int = 1) -> AsyncGenerator[T, None]:
    """Yield the items of the source whose first item comes first.

    The others are cancelled at that moment. The winner's first item does not wait for the cleanup of the
    others. Their cleanup runs meanwhile, and this generator's end waits for it; its errors are only
    logged. A source that ends without an item, or fails before there is a winner, is out. Cancelling
    closes all sources, each in the task that read it.

    Args:
        sources: The sources, each read by a task of its own, which this generator owns.
        ahead: Number of items of each source that may wait, at least 1.

    Raises:
        Exception: The winner's error, after its items; without a winner, the error of the first source
            that failed.
        ValueError: `ahead` is less than 1, at the first step.
    """
    winner: int | None = None
    failure: BaseException | None = None
    async with Readers(sources, ahead) as readers:
        while readers.live:
            entry = await readers.next()
            if isinstance(entry, Item):
                if winner is None:
                    winner, failure = entry.source, None
                    for other in range(len(sources)):
                        if other != winner:
                            readers.stop(other)
                yield entry.value
            elif entry is not None:
                failure = failure or entry.error
                if entry.source == winner:
                    break
        if failure is not None:
            try:
                raise failure
            finally:
                del entry, failure  # as in `merged`


async def buffered(
    source: AsyncIterable[T], *, size: int = 64, seconds: float | None = None
) -> AsyncGenerator[list[T], None]:
    """Yield lists of items, by number or time.

    A list has `size` items, or fewer once the first has waited for `seconds`. Order is kept and no list
    is empty. While no list is requested, at most `size` items are read ahead. When the source ends or
    fails, the rest is the last list, before the error. Cancelling closes the source and drops the items
    that were read and not given out. The timer never cancels an `__anext__`, so it loses no item.

    Args:
        source: The items, read by a task of its own, which this generator owns.
        size: Maximum number of items in a list, at least 1.
        seconds: Maximum time that an item waits while a list is requested; None waits until it is full.

    Raises:
        ValueError: `size` is less than 1, at the first step.
    """
    async with Readers([source], ahead=size) as readers:
        while readers.live:
            entry = await readers.next()
            batch: list[T] = []
            deadline: float | None = None
            while isinstance(entry, Item):
                batch.append(entry.value)
                if len(batch) == size:
                    break
                if deadline is None and seconds is not None:
                    deadline = entry.at + seconds
                entry = await readers.next(deadline)
            if batch:
                yield batch
            if isinstance(entry, End) and entry.error is not None:
                try:
                    raise entry.error
                finally:
                    del entry  # as in `merged`


def prefetched(source: AsyncIterable[T], *, ahead: int = 8) -> AsyncGenerator[T, None]:
    """Yield the items of `source`, reading at most `ahead` of them in advance.

    Order is kept; an error comes after the items before it. While nothing is requested (a hold, a slow
    client), reading stops at the bound. Cancelling closes the source and drops the items read ahead.

    Args:
        source: The items, read by a task of its own, which this generator owns.
        ahead: Number of items that may wait, at least 1.

    Raises:
        ValueError: `ahead` is less than 1, at the first step.
    """
    return merged(source, ahead=ahead)


class Broadcast(Generic[T]):
    """One source for several consumers.

        async with Broadcast(source, 2) as (one, two):
            ...

    Each consumer gets every item in order, then the source's error, and may be read in a task of its
    own. A closed consumer is ignored; when all are closed, the source is closed immediately. Leaving the
    block closes the source and waits until it is closed; consumers that still wait get `StreamClosed`.
    The block must be left in the task that entered it, and may stand around a `yield`.

    Args:
        source: The items, read by a task of its own, which the block owns.
        consumers: Number of consumers.
        ahead: Number of items that may wait for each consumer, at least 1.
        slow: Policy for a consumer that is `ahead` items behind. `wait`: the source is not read until
            the consumer has room. `drop`: its oldest item is dropped and counted. `close`: it gets
            `TooSlow` after the items that it has.

    Raises:
        ValueError: `ahead` is less than 1.
    """

    def __init__(
        self,
        source: AsyncIterable[T],
        consumers: int,
        *,
        ahead: int = 64,
        slow: Literal["wait", "drop", "close"] = "wait",
    ) -> None:
        if ahead < 1:
            raise ValueError(f"expected ahead to be at least 1, got {ahead}")
        self._source = source
        self._ahead = ahead
        self._slow = slow
        self._room = Signal()
        self._consumers = [Consumer(self) for _ in range(consumers)]
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._begun = False

    async def __aenter__(self) -> list[Consumer[T]]:
        self._task = asyncio.create_task(Contained(self._read()), name="broadcast")
        self._task.add_done_callback(self._done)
        return self._consumers

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        for consumer in self._consumers:
            consumer.end(StreamClosed("the broadcast is over"))
        try:
            await self._stop(error)
        finally:
            self._task = None  # its error has frames that hold this object: a cycle

    async def _stop(self, error: BaseException | None = None) -> None:
        task = self._task
        assert task is not None
        first = not self._stopped and not task.done()
        self._stopped = True
        if first:
            task.cancel()
        await ended([task])
        if not self._begun:  # a cancel before its first step keeps a task from entering its body
            self._begun = True
            await close(self._source)
        if first:
            try:
                raise_first(failures([task]), error)
            finally:
                del task  # as in `merged`

    async def consumer_left(self) -> None:
        """Close the source when no consumer is left."""
        if self._task is not None and all(consumer.left for consumer in self._consumers):
            await self._stop()
        else:
            self._room.wake()

    def item_taken(self) -> None:
        """Go on reading, because a consumer has room again."""
        self._room.wake()

    async def _read(self) -> None:
        self._begun = True
        async with Reading(self._source) as items:
            while True:
                while self._slow == "wait" and any(self._is_full(one) for one in self._consumers):
                    await self._room.wait()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                if self._stopped:  # it swallowed our cancel
                    return
                self._give(item)
                if self._slow != "wait":
                    await asyncio.sleep(0)  # let them keep up with a source that never waits

    def _is_full(self, consumer: Consumer[T]) -> bool:
        return not consumer.left and len(consumer.items) >= self._ahead

    def _give(self, item: T) -> None:
        for consumer in self._consumers:
            if consumer.error is not None or consumer.left:
                continue
            if self._is_full(consumer):
                if self._slow == "close":
                    consumer.end(TooSlow(f"more than {self._ahead} items behind"))
                    continue
                consumer.items.popleft()
                consumer.dropped += 1
            consumer.items.append(item)
            consumer.news.wake()

    def _done(self, task: asyncio.Task[None]) -> None:
        error = failure(task)
        for consumer in self._consumers:
            consumer.end(error or StopAsyncIteration())


class Consumer(AsyncIterator[T], Generic[T]):
    """Consumer of a `Broadcast`. Cancelling a step takes no item.

    Attributes:
        dropped: Number of items that were dropped because it was too slow.
        left: Whether it was closed.
    """

    def __init__(self, broadcast: Broadcast[T]) -> None:
        self.items: deque[T] = deque()
        self.error: BaseException | None = None
        self.news: Signal = Signal()
        self.dropped = 0
        self.left: bool = False
        self._broadcast = broadcast

    async def __anext__(self) -> T:
        while not self.items:
            if self.left:
                raise StopAsyncIteration
            if self.error is not None:
                error, self.error = self.error, StopAsyncIteration()
                try:
                    raise error
                finally:
                    del error  # as in `merged`
            await self.news.wait()
        item = self.items.popleft()
        self._broadcast.item_taken()
        return item

    async def aclose(self) -> None:
        """Leave the broadcast.

        The last consumer to leave closes the source and waits until it is closed.
        """
        if not self.left:
            self.left = True
            self.items.clear()
            self.error = None  # frames in its traceback hold this object
            await self._broadcast.consumer_left()

    def end(self, error: BaseException) -> None:
        """Let `error` follow the items that wait; an earlier end wins."""
        if self.error is None and not self.left:
            self.error = error
            self.news.wake()
