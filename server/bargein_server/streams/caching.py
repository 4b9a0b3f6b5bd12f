"""Cache of answers, which equal requests under way share."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Hashable
from contextvars import Context
from typing import Generic, TypeVar

from bargein_server.agent import Contained

from .sources import Reading, Signal, end, failure, failures, raise_first

T = TypeVar("T")

_AHEAD = 8
"""Number of items that an upstream is read ahead of its fastest listener."""


class Cache(Generic[T]):
    """Cache of finished answers; those under way are shared.

    An instance belongs to one event loop.

    Args:
        answers: Maximum number of finished answers; the least recently requested one is evicted.
        items: Maximum length of a kept answer, in items. A longer one is still streamed to all its
            listeners, then at the pace of the slowest.
        max_age_s: Lifetime of a finished answer, in seconds; None for no limit.
    """

    def __init__(self, *, answers: int = 128, items: int = 4096, max_age_s: float | None = None) -> None:
        self._answers: OrderedDict[Hashable, _Answer[T]] = OrderedDict()
        self._most = answers
        self._items = items
        self._max_age_s = max_age_s

    def __len__(self) -> int:
        """Return the number of answers that are kept or under way."""
        return len(self._answers)

    async def stream(self, key: Hashable, make: Callable[[], AsyncIterable[T]]) -> AsyncGenerator[T, None]:
        """Yield the answer to `key`: kept, under way, or made now.

        Every listener gets every item in order from the first, then the upstream's error if it failed.
        Cancelling one listener takes nothing from the others. When the last one leaves, the upstream is
        cancelled and closed in its own task, and forgotten. Only an answer that ended without an error
        is kept.

        The upstream belongs to no turn, because it may outlive the one that requested it first: it runs
        in an empty context. So it is closed by the end of its last listener and not by the fence.

        Args:
            key: Equal keys share an answer.
            make: Makes the stream of the answer; called when there is none.
        """
        answer = self._find(key)
        if answer is None:
            answer = self._answers[key] = _Answer(self._items)
            answer.start(make, lambda: self._settle(key))
        self._answers.move_to_end(key)
        listener = answer.join()
        try:
            while True:
                while listener.place < answer.end:
                    item = answer.items[listener.place - answer.begin]
                    listener.place += 1
                    answer.room.wake()
                    yield item
                if answer.over:
                    break
                await answer.news.wait()
            if answer.error is not None:
                raise answer.error
        finally:
            answer.listeners.remove(listener)
            if answer.listeners:
                answer.room.wake()
            elif answer.over:
                answer.release()
            else:
                self._forget(key, answer)
                await answer.stop()

    def _find(self, key: Hashable) -> _Answer[T] | None:
        answer = self._answers.get(key)
        if answer is None or answer.too_long or answer.error is not None:
            return None
        if answer.over and self._max_age_s is not None and answer.age_s() > self._max_age_s:
            return None
        return answer

    def _settle(self, key: Hashable) -> None:
        """Forget answers that cannot be given again, or exceed the maximum."""
        answer = self._answers.get(key)
        if answer is not None and (answer.too_long or answer.error is not None):
            del self._answers[key]
        finished = [key for key, answer in self._answers.items() if answer.over]
        for key in finished[: max(0, len(finished) - self._most)]:
            del self._answers[key]

    def _forget(self, key: Hashable, answer: _Answer[T]) -> None:
        if self._answers.get(key) is answer:
            del self._answers[key]


class _Listener:
    """Reader of an answer; `place` is the number of its next item."""

    __slots__ = ("place",)

    def __init__(self) -> None:
        self.place = 0


class _Answer(Generic[T]):
    """Answer under way or finished; `items[0]` is item number `begin`."""

    def __init__(self, most: int) -> None:
        self.items: list[T] = []
        self.begin = 0
        self.listeners: list[_Listener] = []
        self.news = Signal()
        self.room = Signal()
        self.over = False
        self.error: BaseException | None = None
        self.finished_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._most = most
        self._stopped = False

    @property
    def end(self) -> int:
        return self.begin + len(self.items)

    @property
    def too_long(self) -> bool:
        return self.end > self._most

    def age_s(self) -> float:
        return asyncio.get_running_loop().time() - self.finished_at

    def join(self) -> _Listener:
        listener = _Listener()
        self.listeners.append(listener)
        return listener

    def start(self, make: Callable[[], AsyncIterable[T]], settle: Callable[[], None]) -> None:
        work = Contained(self._read(make))
        self._task = asyncio.create_task(work, name="cached answer", context=Context())
        self._task.add_done_callback(lambda task: self._done(task, settle))

    async def stop(self) -> None:
        """Cancel the upstream and wait for it; an error of its cleanup propagates."""
        self._stopped = True
        assert self._task is not None
        running = not self._task.done()
        try:
            await end([self._task])
            if running:
                raise_first(failures([self._task]), None)
        finally:
            self.release()

    def release(self) -> None:
        """Forget an error that every listener has; its frames hold this object."""
        self._task = self.error = None

    async def _read(self, make: Callable[[], AsyncIterable[T]]) -> None:
        async with Reading(make()) as items:
            while True:
                while not self._has_room():
                    await self.room.wait()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                if self._stopped:  # it swallowed our cancel
                    return
                self.items.append(item)
                if self.too_long:
                    done = min(listener.place for listener in self.listeners) - self.begin
                    del self.items[:done]
                    self.begin += done
                self.news.wake()

    def _has_room(self) -> bool:
        places = [listener.place for listener in self.listeners]
        return bool(places) and self.end < max(places) + _AHEAD and self.end < min(places) + self._most

    def _done(self, task: asyncio.Task[None], settle: Callable[[], None]) -> None:
        self.error = failure(task)
        self.over = True
        self.finished_at = task.get_loop().time()
        settle()
        self.news.wake()
