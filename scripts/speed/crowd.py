"""Many clients on one event loop, cheaper than the server they measure.

Nothing is decoded: the first bytes of a frame identify it. The load test checks the content.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

from .client import Client
from .processes import Broken, Served

PATIENCE_S = 60.0
PHASE_S = 0.5


class Crowd:
    """Clients of one server.

    Args:
        server: Whose.
        size: How many there are at first.

    Attributes:
        server: Whose.
        clients: Those that are connected.
    """

    def __init__(self, server: Served, size: int) -> None:
        self.server = server
        self.clients: list[Client] = []
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
            raise Broken(f"{self.server.name}: {lost}")

    @property
    def lost(self) -> str | None:
        """First failure of a client; None without one."""
        return next((client.lost for client in self.clients if client.lost), None)

    @property
    def tokens(self) -> int:
        """Tokens that all clients received."""
        return sum(client.tokens for client in self.clients)

    async def grow(self, by: int) -> Sequence[Client]:
        """Connect more clients and return them, idle."""
        before = len(self.clients)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(by):
                client = Client(self.server)
                self.clients.append(client)
                await client.connect()
        return self.clients[before:]

    async def shrink(self, by: int) -> None:
        """Disconnect the newest clients."""
        gone, self.clients = self.clients[len(self.clients) - by :], self.clients[: len(self.clients) - by]
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(client.close() for client in gone))

    async def start(self, text: str, clients: Sequence[Client] | None = None) -> None:
        """Begin turns of all or some clients, at random moments in `PHASE_S`."""
        random = Random(1)
        chosen = self.clients if clients is None else clients
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            for client in chosen:
                tasks.create_task(_begin(client, text, PHASE_S * random.random()))

    async def hush(self) -> None:
        """Interrupt all running turns, to leave the machine to the other servers."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(client.stop() for client in self.clients if client.in_turn))

    async def all_say(self, text: str) -> None:
        """Run one complete turn of every client, concurrently."""
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
            for client in self.clients:
                tasks.create_task(client.turn(text))

    async def each_says(self, text: str) -> None:
        """Run one complete turn of every client, one after another."""
        async with asyncio.timeout(PATIENCE_S):
            for client in self.clients:
                await client.turn(text)


async def _begin(client: Client, text: str, after: float) -> None:
    await asyncio.sleep(after)
    await client.first_token(text)
