"""Sources that record reads and closes, and a driver that cuts anywhere.

    source = Source("a", "b")
    cut = await run(lambda: read(sentences(source.stream)), cut=3)

`cut=3` cancels the reader at its third suspension point. A source holds its generator, so that no
collector closes it, and sets a context variable, so that it notices when another task does.
"""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any, Generic, Literal, TypeVar

T = TypeVar("T")

Mode = Literal["early", "late", "twice"]
"""When the cancel comes: as the wait begins; in the step in which it ends; and again at the next wait."""

_VARIABLE: ContextVar[str] = ContextVar("of_a_source")


async def moment() -> None:
    """Wait for a future that is done in the next iteration of the loop."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(_finish, future)
    await future


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Source(Generic[T]):
    """An async generator that remembers.

    Args:
        items: What it yields.
        pause: What it awaits before each item; None: it never waits.
        fails: What it raises after its items.
        cleanup_fails: What its `finally` raises.
        swallows: Whether it answers every cancel with one more item.

    Attributes:
        stream: The generator.
        given: What it has yielded.
        begun, closed: Whether it has begun; whether its `finally` has run.
        strange: What was wrong: closed in another task, or in another context.
    """

    def __init__(
        self,
        *items: T,
        pause: Callable[[], Awaitable[None]] | None = moment,
        fails: BaseException | None = None,
        cleanup_fails: Exception | None = None,
        swallows: T | None = None,
    ) -> None:
        self.given: list[T] = []
        self.begun = self.closed = False
        self.strange: list[str] = []
        self._items = items
        self._pause = pause
        self._fails = fails
        self._cleanup_fails = cleanup_fails
        self._swallows = swallows
        self.stream: AsyncGenerator[T, None] = self._run()

    async def _run(self) -> AsyncGenerator[T, None]:
        self.begun = True
        task, token = asyncio.current_task(), _VARIABLE.set("inside")
        try:
            async with aclosing(self._all()) as items:
                async for item in items:
                    self.given.append(item)
                    yield item
            if self._fails is not None:
                raise self._fails
        finally:
            self.closed = True
            if asyncio.current_task() is not task:
                self.strange.append("closed in another task")
            try:
                _VARIABLE.reset(token)
            except ValueError:
                self.strange.append("closed in another context")
            if self._pause is not None:
                await self._pause()
            if self._cleanup_fails is not None:
                raise self._cleanup_fails

    async def _all(self) -> AsyncGenerator[T, None]:
        for item in self._items:
            try:
                if self._pause is not None:
                    await self._pause()
            except asyncio.CancelledError:
                if self._swallows is None:
                    raise
                yield self._swallows
            yield item


async def read(stream: AsyncIterator[T], into: list[T], pause: bool = True) -> None:
    """Read a stream to its end and close it, with a pause after every item."""
    try:
        async for item in stream:
            into.append(item)
            if pause:
                await moment()
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


@types.coroutine
def stepped(
    coroutine: Coroutine[Any, Any, T], suspended: Callable[[int, Any], None]
) -> Generator[Any, Any, T]:
    """Run a coroutine; report each suspension with its number and its future."""
    step: Callable[[Any], Any] = coroutine.send
    value: Any = None
    count = 0
    while True:
        try:
            waited_for = step(value)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        count += 1
        suspended(count, waited_for)
        step, value = coroutine.send, None
        try:
            yield waited_for
        except BaseException as error:
            step, value = coroutine.throw, error


async def run(
    reader: Callable[[], Coroutine[Any, Any, None]], cut: int | None = None, mode: Mode = "early"
) -> tuple[int, BaseException | None]:
    """Run a reader in a task and cancel it at its suspension number `cut`.

    Returns:
        How many suspension points there were, and what it raised.
    """
    suspensions = 0
    before = asyncio.all_tasks()

    def suspended(count: int, waited_for: Any) -> None:
        nonlocal suspensions
        suspensions = count
        if count == cut or (mode == "twice" and cut is not None and count == cut + 1):
            if mode == "late" and isinstance(waited_for, asyncio.Future):
                waited_for.add_done_callback(lambda _: task.cancel())
            else:
                task.cancel()

    async def body() -> None:
        await stepped(reader(), suspended)

    task = asyncio.create_task(body())
    await asyncio.wait({task})
    left = asyncio.all_tasks() - before - {task}
    assert not left, f"tasks were left: {left}"
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    return suspensions, error


@contextmanager
def no_accidents() -> Iterator[None]:
    """Disable the collector; afterwards fail on unretrieved errors."""
    complaints: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    gc.collect()
    gc.disable()
    try:
        yield
        gc.collect()
        assert not complaints, complaints
    finally:
        gc.enable()
        loop.set_exception_handler(None)
