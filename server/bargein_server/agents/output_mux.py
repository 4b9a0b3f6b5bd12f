"""Tasks that work side by side and speak through one generator.

A generator may not hold a task group across a `yield`: its cancel would hit whoever pulls it. So the
tasks put what they say into a short queue, the generator that owns the crew yields from it, and ends
the tasks when it ends. The turn knows the tasks as well and cancels all of them in the step of the
fence, wherever the generator stands.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine
from typing import Any

from bargein_server.agent import Output, Turn

ROOM = 16
"""Outputs that may wait; one who has more to say waits until the agent is pulled."""


class OutputMux:
    """See the module.

    Attributes:
        tasks: All that were started, in order.
    """

    def __init__(self, turn: Turn) -> None:
        self.tasks: list[asyncio.Task[Any]] = []
        self._turn = turn
        self._said: deque[Output] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._closed = False

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Let a coroutine work; all are started before the first of them takes a step."""
        task = self._turn.spawn(work)
        self.tasks.append(task)
        task.add_done_callback(lambda _: self._news.set())
        return task

    def tell(self, output: Output) -> None:
        """Say something without waiting, in the step in which it is true; for what comes seldom."""
        if not self._closed:
            self._said.append(output)
            self._news.set()

    async def say(self, output: Output) -> None:
        """Say something through the generator; it reaches nobody when that has ended.

        It waits while the agent is not pulled. Cancelling it is safe: nothing was said then.
        """
        while len(self._said) >= ROOM and not self._closed:
            self._room.clear()
            await self._room.wait()
        self.tell(output)

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """Yield what is said until all tasks have ended; closing it ends them.

        Raises:
            BaseException: What the first task that failed raised, as soon as it is over and what was
                said until then was yielded. The others are cancelled.
        """
        try:
            while True:
                self._news.clear()
                ended = [task for task in self.tasks if task.done()]
                while self._said:
                    output = self._said.popleft()
                    self._room.set()
                    yield output
                for task in ended:
                    task.result()
                if len(ended) == len(self.tasks) and not self._said:
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
                task.exception()  # seen: the first one was raised, the others came of its cancel
