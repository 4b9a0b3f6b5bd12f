"""Interrupts at random times, and their durations."""

from __future__ import annotations

import asyncio
from random import Random
from time import perf_counter

from .client import Client
from .crowd import PATIENCE_S, Crowd

AWAKE_S = 2e-3


class Interrupts:
    """Repeated interrupts by all clients of a crowd.

    Args:
        text: The input.
        pause: Average time from input to interrupt, in seconds; at least half of it.
        rest: Average time from an end to the next input, in seconds; 0 for immediately.

    Attributes:
        ended: Interrupt → end, in seconds.
        again: Interrupt → first token of the next turn, in seconds.
        first: Input → first token, in seconds.
    """

    def __init__(self, text: str, pause: float, rest: float = 0.0) -> None:
        self.ended: list[float] = []
        self.again: list[float] = []
        self.first: list[float] = []
        self._text = text
        self._mean_pause = pause
        self._rest = rest
        self._sleepers: set[asyncio.Task[None]] = set()

    async def of(self, crowd: Crowd, seconds: float, at_least: int) -> None:
        """Interrupt the running turns of a crowd repeatedly.

        Args:
            crowd: The crowd.
            seconds: Minimum duration.
            at_least: Minimum number of interrupts.
        """
        until = perf_counter() + seconds
        async with asyncio.timeout(seconds + PATIENCE_S), asyncio.TaskGroup() as tasks:
            for n, client in enumerate(crowd.clients):
                tasks.create_task(self._interrupt(client, until, at_least, Random(n)))

    async def _interrupt(self, client: Client, until: float, at_least: int, random: Random) -> None:
        # Everybody runs already, and somewhere in a turn.
        await self._pause(self._mean_pause * random.uniform(0.5, 1.5) * random.random())
        while perf_counter() < until or len(self.ended) < at_least:
            began = perf_counter()
            self.ended.append(await client.stop())
            if self._rest:
                await self._pause(self._rest * random.uniform(0.5, 1.5))
            self.first.append(await client.first_token(self._text))
            self.again.append(client.first_token_at - began)
            await self._pause(self._mean_pause * random.uniform(0.5, 1.5))
        for sleeper in self._sleepers:
            sleeper.cancel()  # clients in the middle of a turn have nothing left to do

    async def _pause(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sleepers.add(task)
        try:
            await _until(perf_counter() + seconds)
        finally:
            self._sleepers.discard(task)


async def _until(due: float) -> None:
    """Wait until a random time, independent of the event loop.

    A timer of the loop fires mostly when tokens arrive, which is when the server is busy. So the last part
    of the time is busy waiting.
    """
    await asyncio.sleep(max(0.0, due - perf_counter() - AWAKE_S))
    while perf_counter() < due:
        await asyncio.sleep(0)
