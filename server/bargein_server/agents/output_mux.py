"""Multiplexer of the outputs of concurrent tasks into one async generator.

A generator may not hold a task group open across a `yield`, because the group's cancel would reach the
consumer. So the tasks put their outputs into a short queue. The generator that owns the multiplexer
yields from the queue and ends the tasks when it ends. The tasks belong to the turn, which cancels all of
them in the step of the fence, wherever the generator stands.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from bargein_server.agent import Output, Turn

ROOM = 16
"""Outputs that may be queued before `put` waits."""


class OutputMux:
    """Merger of the outputs of concurrent tasks.

    Args:
        turn: The turn that the tasks belong to.

    Attributes:
        tasks: All started tasks, in order.
    """

    def __init__(self, turn: Turn) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self._turn = turn
        self._queue: deque[Output] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine as a task.

        All tasks are created before the first of them takes a step.
        """
        task = self._turn.spawn(work)
        self.tasks.append(task)
        task.add_done_callback(lambda _: self._news.set())
        return task

    def push(self, output: Output) -> None:
        """Queue a rare output without waiting, in the step that it reports."""
        if not self._closed:
            self._queue.append(output)
            self._news.set()

    async def put(self, output: Output) -> None:
        """Queue an output when there is room.

        It waits while the generator is not pulled. Cancelling it is safe: nothing was queued. Once the
        generator has ended, the output is dropped.
        """
        while len(self._queue) >= ROOM and not self._closed:
            self._room.clear()
            await self._room.wait()
        self.push(output)

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """Yield queued outputs until all tasks have ended.

        Closing it ends the tasks.

        Raises:
            BaseException: The error of the first task that failed, once the outputs before it were
                yielded. The other tasks are cancelled.
        """
        try:
            while True:
                self._news.clear()
                ended = [task for task in self.tasks if task.done()]
                while self._queue:
                    output = self._queue.popleft()
                    self._room.set()
                    yield output
                for task in ended:
                    task.result()
                if len(ended) == len(self.tasks) and not self._queue:
                    return
                await self._news.wait()
        finally:
            self._closed = True
            self._room.set()
            await self._end()

    async def _end(self) -> None:
        rest = [task for task in self.tasks if not task.done()]
        for task in rest:
            if not task.cancelling():  # a second cancel would cut the cleanup that the first one began
                task.cancel()
        if rest:
            await asyncio.wait(rest)
        for task in self.tasks:
            if not task.cancelled():
                task.exception()  # retrieved: the first error was raised, the others are of its cancel
