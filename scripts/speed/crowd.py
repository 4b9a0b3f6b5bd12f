"""Many clients of either server on one event loop, so cheap that the server is what is timed.

Nothing is decoded: a frame is told by its first bytes. Checking is for the load test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from time import perf_counter

from .client import Client
from .processes import Broken, Served

PATIENCE_S = 60.0
AWAKE_S = 2e-3
PHASE_S = 0.5


class Crowd:
    """Clients of one server.

    Args:
        server: Whose.
        size: How many there are at first.

    Attributes:
        clients: Those that are connected.
        ended: Interrupt → end, in seconds; so are the others.
        again: Interrupt → first token of the next turn.
        first: Input → first token.
    """

    def __init__(self, server: Served, size: int) -> None:
        self.clients: list[Client] = []
        self.ended: list[float] = []
        self.again: list[float] = []
        self.first: list[float] = []
        self._sleepers: set[asyncio.Task[None]] = set()
        self._server = server
        self._size = size

    async def __aenter__(self) -> Crowd:
        try:
            await self.grow(self._size)
        except BaseException:
            await self.shrink(len(self.clients))
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        lost = self.lost
        await self.shrink(len(self.clients))
        if kind is None and lost:
            raise Broken(f"{self._server.name}: {lost}")

    @property
    def lost(self) -> str | None:
        """What first went wrong with one of them, None while nothing did."""
        return next((client.lost for client in self.clients if client.lost), None)

    @property
    def tokens(self) -> int:
        """How many tokens came to all of them."""
        return sum(client.tokens for client in self.clients)

    async def grow(self, by: int) -> Sequence[Client]:
        """Connect more; returns them, idle."""
        before = len(self.clients)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(by):
                client = Client(self._server)
                self.clients.append(client)
                await client.connect()
        return self.clients[before:]

    async def shrink(self, by: int) -> None:
        """Let the last ones go."""
        gone, self.clients = self.clients[len(self.clients) - by :], self.clients[: len(self.clients) - by]
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(client.close() for client in gone))

    async def start(self, text: str, clients: Sequence[Client] | None = None) -> None:
        """Let everyone begin a turn, or these, at random moments within `PHASE_S`."""
        random = Random(1)
        chosen = self.clients if clients is None else clients
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            for client in chosen:
                tasks.create_task(_begin(client, text, PHASE_S * random.random()))

    async def barge_in(
        self, text: str, pause: float, seconds: float, at_least: int, rest: float = 0.0
    ) -> None:
        """Let everyone cut turns off at random moments.

        Args:
            text: What they say.
            pause: How long a turn runs on average, in seconds; never less than half of that.
            rest: How long it takes on average until the next begins, in seconds; 0 for at once.
            seconds: How long this goes on,
            at_least: or until there are so many interrupts, whichever is later.
        """
        until = perf_counter() + seconds
        async with asyncio.timeout(seconds + PATIENCE_S), asyncio.TaskGroup() as tasks:
            for n, client in enumerate(self.clients):
                tasks.create_task(self._interrupt(client, text, pause, rest, until, at_least, Random(n)))

    async def _interrupt(
        self, client: Client, text: str, pause: float, rest: float, until: float, at_least: int,
        random: Random,
    ) -> None:  # fmt: skip
        # Everybody runs already, and somewhere in a turn.
        await self._pause(pause * random.uniform(0.5, 1.5) * random.random())
        while perf_counter() < until or len(self.ended) < at_least:
            began = perf_counter()
            self.ended.append(await client.stop())
            if rest:
                await self._pause(rest * random.uniform(0.5, 1.5))
            self.first.append(await client.first_token(text))
            self.again.append(client.first_token_at - began)
            await self._pause(pause * random.uniform(0.5, 1.5))
        for sleeper in self._sleepers:
            sleeper.cancel()  # nothing is left to do for whoever is in the middle of a turn

    async def _pause(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sleepers.add(task)
        try:
            await _until(perf_counter() + seconds)
        finally:
            self._sleepers.discard(task)

    async def all_say(self, text: str) -> None:
        """Let everyone have one turn to its end."""
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            for client in self.clients:
                tasks.create_task(client.turn(text))

    async def each_says(self, text: str) -> None:
        """Let everyone have one turn to its end, one after the other."""
        async with asyncio.timeout(PATIENCE_S):
            for client in self.clients:
                await client.turn(text)


async def _begin(client: Client, text: str, after: float) -> None:
    await asyncio.sleep(after)
    await client.first_token(text)


async def _until(due: float) -> None:
    """Wait for a moment that depends on nothing but chance.

    A timer of the loop would fire when it is noticed: mostly when tokens come in, which is when the server
    is busy. So the last bit is waited for awake.
    """
    await asyncio.sleep(max(0.0, due - perf_counter() - AWAKE_S))
    while perf_counter() < due:
        await asyncio.sleep(0)
