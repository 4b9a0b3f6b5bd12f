"""The store of all nodes, and each node's connections to it.

The store is the model of a Redis server. It can be down, stand still, be slow, and forget: everything, or all
since an earlier moment. A connection can break before a call takes effect or before its answer,
and a node can be cut off from the store alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from bargein_server.stores.interface import StoreError
from bargein_server.stores.patience import Patience
from bargein_server.stores.redis_address import RedisAddress
from bargein_server.stores.redis_link import ANSWER_S, Command
from bargein_server.stores.redis_store import RedisStore
from redis_model import RedisModel

from .loop import NodeLoop, Standing

ADDRESS = RedisAddress((("store", 6379),))


class StoreServer:
    """The store.

    Attributes:
        model: What it has.
        up: Whether it runs.
        stands: Whether it stands still.
        unreachable: Whether no node reaches it.
        slow_s: Longest time for which a call waits in it, in seconds.
        breaks: How likely a connection breaks in a call.
        cut_off: Nodes that cannot reach it.
        calls: Number of calls that have taken effect.
    """

    def __init__(self, loop: NodeLoop, chance: random.Random, delay_s: float) -> None:
        self.model = RedisModel(loop.time)
        self.up = True
        self.stands = self.unreachable = False
        self.slow_s = 0.0
        self.breaks = 0.0
        self.cut_off: set[Standing] = set()
        self.calls = 0
        self.loop = loop
        self.chance = chance
        self.delay_s = delay_s
        self._waiting: list[tuple[list[Command], asyncio.Future[list[Any]], bool]] = []
        self._generation = 0

    @property
    def generation(self) -> int:
        """Number of its starts; connections do not outlive one."""
        return self._generation

    def stop(self) -> None:
        """End it, with all connections."""
        self.up = self.stands = False
        self._generation += 1
        waiting, self._waiting = self._waiting, []
        for _, answered, _ in waiting:
            self._answer(answered, None)

    def start(self) -> None:
        """Start it again."""
        self.up = True
        self.model.started_at = self.loop.time()

    def stand_still(self) -> None:
        """Answer nothing from now on."""
        self.stands = self.up

    def go_on(self) -> None:
        """Answer what has arrived meanwhile, in order."""
        self.stands = False  # a store that was stopped meanwhile has nothing to answer
        waiting, self._waiting = self._waiting, []
        for commands, answered, lost in waiting:
            self._run(commands, answered, lost)

    def arrive(self, commands: list[Command], answered: asyncio.Future[list[Any]], generation: int) -> None:
        """Take a pipeline that has arrived."""
        lost = self.chance.random() < self.breaks
        if not self.up or generation != self._generation or (lost and self.chance.random() < 0.5):
            self._answer(answered, None)
        elif self.stands:
            self._waiting.append((commands, answered, lost))
        else:
            self._run(commands, answered, lost)

    def _run(self, commands: list[Command], answered: asyncio.Future[list[Any]], lost: bool) -> None:
        self.calls += len(commands)
        answers = [self.model.call(command) for command in commands]
        self._answer(answered, None if lost else answers)

    def _answer(self, answered: asyncio.Future[list[Any]], answers: list[Any] | None) -> None:
        def arrive() -> None:
            if not answered.done():
                if answers is None:
                    answered.set_exception(StoreError("unavailable", "the connection is gone"))
                else:
                    answered.set_result(answers)

        self.loop.arrive(self.loop.time() + self.chance.random() ** 2 * self.delay_s, arrive)


class StoreLink:
    """One connection of a node; stands for a `RedisLink`."""

    def __init__(self, server: StoreServer, node: Standing) -> None:
        self._server = server
        self._node = node
        self._turn = asyncio.Lock()
        self._generation = -1
        self.answer_s = ANSWER_S
        self._last = 0.0

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Return the answers, after those of the calls before."""
        server = self._server
        async with self._turn:
            if server.unreachable or self._node in server.cut_off:  # packets are dropped
                await self._patiently(server.loop.create_future())
            if not server.up:
                raise StoreError("unavailable", "it cannot be reached")
            self._generation = server.generation
            answered: asyncio.Future[list[Any]] = server.loop.create_future()
            wait_s = server.chance.random() ** 2 * server.delay_s + server.chance.random() * server.slow_s
            self._last = max(self._last, server.loop.time() + wait_s)
            batch, generation = list(commands), self._generation

            def arrive() -> None:
                if server.unreachable or self._node in server.cut_off:
                    return
                server.arrive(batch, answered, generation)

            server.loop.arrive(self._last, arrive)
            return await self._patiently(answered)

    async def _patiently(self, answered: asyncio.Future[list[Any]]) -> list[Any]:
        def give_up() -> None:
            if not answered.done():
                answered.set_exception(StoreError("unavailable", "it does not answer"))

        patience = Patience(asyncio.get_running_loop(), self.answer_s, give_up)
        try:
            return await answered
        finally:
            patience.cancel()

    async def connect(self) -> None:
        """Connect."""
        await self.call([("PING",)])

    async def close(self) -> None:
        """Close after the calls before."""
        async with self._turn:
            pass


def store_of_node(server: StoreServer, node: Standing, keep_s: float = 86_400.0) -> RedisStore:
    """Return the store as a node has it."""
    store = RedisStore(ADDRESS, keep_s)
    store._writer, store._reader = StoreLink(server, node), StoreLink(server, node)  # type: ignore[assignment]
    return store
