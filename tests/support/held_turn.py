"""Turn in the hands of a test; runs and ends an agent as the runner does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from bargein_server.hosting.upstream import TURN_STREAMS, TurnStreams
from model_server import WAIT_S


class HeldTurn:
    """Task that owns an agent's generator and takes outputs until a hold.

    Args:
        agent: The agent's generator.
        hold_after: How many outputs are taken; then the generator stands at its `yield`, as it does
            for a hold or a client that reads slowly. None takes all.
        closes: Whether its streams are closed when it is over.

    Attributes:
        outputs: What was taken.
        task: The task.
        streams: What the turn has open.
        agent: The generator: held here, so that no collector closes it for us.
    """

    def __init__(
        self, agent: AsyncGenerator[Any, None], *, hold_after: int | None = None, closes: bool = True
    ) -> None:
        self.agent = agent
        self.outputs: list[Any] = []
        self.streams = TurnStreams()
        self._hold_after = hold_after
        self._closes = closes
        self._at_hold = asyncio.Event()
        self._resumed = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        TURN_STREAMS.set(self.streams)
        try:
            async with aclosing(self.agent) as outputs:
                async for output in outputs:
                    self.outputs.append(output)
                    if len(self.outputs) == self._hold_after:
                        self._at_hold.set()
                        await self._resumed.wait()
        finally:
            if self._closes:
                self.streams.close()

    async def held(self) -> None:
        """Wait until the generator stands at its `yield`."""
        await asyncio.wait_for(self._at_hold.wait(), WAIT_S)

    def resume(self) -> None:
        """Take the rest."""
        self._resumed.set()

    def interrupt(self) -> None:
        """End the turn in one step, as the runner does behind the fence."""
        self.task.cancel()
        self.streams.close()

    async def over(self) -> BaseException | None:
        """Wait for the task and its streams; return its error, None for a cancel."""
        done, _ = await asyncio.wait({self.task}, timeout=WAIT_S)
        assert done, "the turn's task did not end"
        await asyncio.wait_for(self.streams.drained(), WAIT_S)
        return None if self.task.cancelled() else self.task.exception()
