"""Clients that interrupt turns at random moments, and the times measured."""

from __future__ import annotations

import asyncio
from random import Random
from time import perf_counter

from .client import Client
from .crowd import PATIENCE_S, Crowd

AWAKE_S = 2e-3


class Interrupts:
    """Everyone of a crowd interrupts, again and again.

    Args:
        text: What they say.
        pause: How long a turn runs on average, in seconds; never less than half of that.
        rest: How long it takes on average until the next begins, in seconds; 0 for at once.

    Attributes:
        ended: Interrupt → end, in seconds; so are the others.
        again: Interrupt → first token of the next turn.
        first: Input → first token.
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
        """Let a crowd, whose turns run, interrupt.

        Args:
            crowd: Who.
            seconds: How long this goes on,
            at_least: or until there are so many interrupts, whichever is later.
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
            sleeper.cancel()  # the remaining clients have nothing more to do

    async def _pause(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sleepers.add(task)
        try:
            await _until(perf_counter() + seconds)
        finally:
            self._sleepers.discard(task)


async def _until(due: float) -> None:
    """Wait for a moment that depends on nothing but chance.

    A timer of the loop would fire when it is noticed: mostly when tokens come in, which is when the server
    is busy. So the last bit is waited for awake.
    """
    await asyncio.sleep(max(0.0, due - perf_counter() - AWAKE_S))
    while perf_counter() < due:
        await asyncio.sleep(0)
