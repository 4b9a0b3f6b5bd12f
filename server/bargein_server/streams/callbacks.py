"""Streams from producers that push: callbacks, handlers, queue writers."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from bargein_protocol import StepEnded
from bargein_server.agent import Contained

from .sources import Signal, StreamClosed, TooSlow, end, failure, failures, raise_first

T = TypeVar("T")
In = TypeVar("In", contravariant=True)


async def from_callbacks(
    produce: Callable[[Push[T]], Awaitable[object]], *, ahead: int = 1024
) -> AsyncGenerator[T, None]:
    """Yield the items that a producer pushes, in order.

    The stream ends when the producer returns or closes its end.

    A handler in the style of LangChain becomes a stream like this:

        class Handler(AsyncCallbackHandler):
            async def on_llm_new_token(self, token, **_): await push.put(token)
            async def on_tool_end(self, output, **_): push.step_ended("tool")

        async def produce(push):
            result = await chain.ainvoke(question, config={"callbacks": [Handler(push)]})
            push(result["output"])      # the final answer, if it was not streamed

    The producer runs in a task of its own, which this generator owns, in the context of the turn. Its
    error is raised after its items. Cancelling cancels it and waits for its end; the next push of a
    thread that it started raises `StreamClosed`. A producer whose callbacks end the stream returns
    `await push.wait_closed()`.

    Args:
        produce: Async function of a `Push`.
        ahead: Number of items that may wait, at least 1.

    Raises:
        ValueError: `ahead` is less than 1, at the first step.
    """
    push = Push[T](ahead)
    task = asyncio.create_task(Contained(_run(produce, push)))
    task.add_done_callback(lambda _: push.news.wake())
    try:
        while True:
            over = push.closed or task.done()  # first: a thread may push and close at any point
            if push.items:
                yield push.take()
            elif over:
                break
            else:
                await push.news.wait()
        if task.done() and (error := failure(task)) is not None:
            try:
                raise error
            finally:
                del error  # this frame is in its traceback: a cycle
    finally:
        running = not task.done()
        push.close()
        try:
            await end([task])
            if running:
                raise_first(failures([task]), None)
        finally:
            del task  # it holds the error


async def _run(produce: Callable[[Push[T]], Awaitable[object]], push: Push[T]) -> None:
    await produce(push)


class Push(Generic[In]):
    """Writing end of a stream: call it with an item, from any thread.

    On the loop's thread a call never waits: it raises `TooSlow` when `ahead` items wait already, and
    `await push.put(item)` waits. On any other thread a call blocks until there is room. With `put_nowait`
    and `put` it can replace an `asyncio.Queue`.

    Attributes:
        closed: Whether the stream is over; every push then raises `StreamClosed`.
    """

    def __init__(self, ahead: int) -> None:
        if ahead < 1:
            raise ValueError(f"expected ahead to be at least 1, got {ahead}")
        self.items: deque[Any] = deque()
        self.news: Signal = Signal()
        self.closed: bool = False
        self._ahead = ahead
        self._steps = 0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._room = threading.Condition()
        self._changed = Signal()

    def __call__(self, item: In) -> None:
        """Push an item.

        Raises:
            StreamClosed: The stream has no reader any more.
            TooSlow: On the loop's thread: `ahead` items wait already.
        """
        self._push(item)

    def put_nowait(self, item: In) -> None:
        """Push an item, by the name that a queue has for it."""
        self._push(item)

    async def put(self, item: In) -> None:
        """Push an item when there is room, on the loop's thread only.

        Cancelling it pushes nothing.

        Raises:
            StreamClosed: The stream has no reader any more.
            RuntimeError: It is called from another thread.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "push.put() was called from another thread: call push(item) there, which blocks"
            )
        while len(self.items) >= self._ahead and not self.closed:
            await self._changed.wait()
        self._push(item)

    def step_ended(self: Push[StepEnded], kind: str = "") -> None:
        """Push the end of a step, counted from 0; it raises like a push."""
        step, self._steps = self._steps, self._steps + 1
        self._push(StepEnded(index=step, kind=kind))

    def close(self) -> None:
        """End the stream after the pushed items; idempotent, from any thread."""
        with self._room:
            self.closed = True
            self._room.notify_all()
        self._wake(self._closed_now)

    async def wait_closed(self) -> None:
        """Wait until the stream is over."""
        while not self.closed:
            await self._changed.wait()

    def take(self) -> Any:
        """Take the oldest item; for the reader."""
        with self._room:
            item = self.items.popleft()
            self._room.notify()
        self._changed.wake()
        return item

    def _push(self, item: Any) -> None:
        with self._room:
            while len(self.items) >= self._ahead and not self.closed:
                if threading.get_ident() == self._thread:
                    raise TooSlow(f"{self._ahead} items wait already")
                self._room.wait()
            if self.closed:
                raise StreamClosed("the stream has no reader")
            self.items.append(item)
        self._wake(self.news.wake)

    def _wake(self, wake: Callable[[], None]) -> None:
        if threading.get_ident() == self._thread:
            wake()
            return
        try:
            self._loop.call_soon_threadsafe(wake)
        except RuntimeError as error:
            raise StreamClosed("the reader's event loop is closed") from error

    def _closed_now(self) -> None:
        self.news.wake()
        self._changed.wake()
