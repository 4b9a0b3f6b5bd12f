"""One stream for several consumers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Generic, Literal, TypeVar

from .errors import StreamClosed, TooSlow
from .readers import raise_first
from .reading import Reading, close
from .signals import Signal
from .tasks import ended, failure

T = TypeVar("T")


class Broadcast(Generic[T]):
    """Read a source once for several consumers: `async with Broadcast(source, 2) as (one, two): …`.

    Each consumer gets every item in order, and the source's error after them, and may be read in a task
    of its own. One that is closed counts no more; when all are, the source is closed at once. Leaving
    the block closes the source and waits until it is; consumers that still wait get `StreamClosed`. The
    block is left in the task that entered it, and may stand around a `yield`.

    Args:
        source: The items. It is read by a task of its own, which the block owns.
        consumers: How many there are.
        ahead: How many items may wait for each consumer, at least 1.
        slow: What becomes of a consumer that is `ahead` items behind. `wait`: the source is not read
            until it has room. `drop`: its oldest item is left out and counted. `close`: it gets
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
        self._task = asyncio.create_task(self._read(), name="broadcast")
        self._task.add_done_callback(self._done)
        return self._consumers

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        for consumer in self._consumers:
            consumer.end(StreamClosed("the broadcast is over"))
        await self._stop(error)

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
        if first and not task.cancelled() and (failed := task.exception()) is not None:
            raise_first([failed], error)

    async def left(self) -> None:
        """Close the source when nobody is left to read it."""
        if self._task is not None and all(consumer.left for consumer in self._consumers):
            await self._stop()
        else:
            self._room.wake()

    def taken(self) -> None:
        """Say that a consumer has room again."""
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
    """One of those who read a `Broadcast`. Cancelling a step takes no item.

    Attributes:
        dropped: How many items were left out because it was too slow.
        left: Whether it was closed.
    """

    def __init__(self, broadcast: Broadcast[T]) -> None:
        self.items: deque[T] = deque()
        self.error: BaseException | None = None
        self.news = Signal()
        self.dropped = 0
        self.left = False
        self._broadcast = broadcast

    async def __anext__(self) -> T:
        while not self.items:
            if self.left:
                raise StopAsyncIteration
            if self.error is not None:
                error, self.error = self.error, StopAsyncIteration()
                raise error
            await self.news.wait()
        item = self.items.popleft()
        self._broadcast.taken()
        return item

    async def aclose(self) -> None:
        """Leave; the last one to leave closes the source and waits until it is closed."""
        if not self.left:
            self.left = True
            self.items.clear()
            await self._broadcast.left()

    def end(self, error: BaseException) -> None:
        """Say that no more items come, and why."""
        if self.error is None:
            self.error = error
            self.news.wake()
