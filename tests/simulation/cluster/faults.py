"""Faults of nodes and of the store, several at a time, from a seed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import SimulatedNode
    from .world import ClusterWorld

REPAIR_S = 3.0
"""Time after the store was away or forgot in which its owners have written everything anew."""

FAULTS_S = 60.0
"""Time after which faults end, so that every client can finish."""

HANG_S = 50.0
"""Time for which a node hangs: nobody waits for its end."""

NODE_FAULTS = ("kill", "vanish", "stand", "hang", "deploy")
STORE_FAULTS = (
    "store_down", "store_vanishes", "store_stands", "store_slow", "roll_back", "roll_back_behind_a_proxy",
    "flush", "break_lines", "cut_off",
)  # fmt: skip

PEER_FAULTS = ("peers_cut", "half_open", "peers_late", "peers_reset")


class Faults:
    """Faults of a world.

    Args:
        world: The world.

    Attributes:
        counts: Number of faults by kind.
    """

    def __init__(self, world: ClusterWorld) -> None:
        self.counts: dict[str, int] = {}
        self._world = world
        self._chance = world.chance_of("faults")
        self._running: set[asyncio.Task[Any]] = set()
        self._copies: list[Any] = []

    async def run(self, kinds: list[str], pause_s: float) -> None:
        """Make faults for a time or until cancelled; wait for their repair."""
        world, chance = self._world, self._chance
        until = world.loop.time() + FAULTS_S
        try:
            while kinds and world.loop.time() < until:
                await asyncio.sleep(chance.uniform(0.1, 2.0) * pause_s)
                if chance.random() < 0.5:
                    self._copies = [*self._copies[-3:], world.store.model.copy()]
                kind = chance.choice(kinds)
                self.counts[kind] = self.counts.get(kind, 0) + 1
                world.trace.note("fault", kind)
                make: Callable[[], Coroutine[Any, Any, None]] = getattr(self, kind)
                task = world.loop.create_task(self._make(make))
                self._running.add(task)
                task.add_done_callback(self._running.discard)
        finally:
            if self._running:
                await asyncio.wait(set(self._running))

    async def _make(self, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        world = self._world
        world.wrong += 1
        try:
            await make()
        finally:
            world.wrong -= 1
            world.note_repair()

    def _node(self) -> SimulatedNode | None:
        nodes = [node for node in self._world.nodes if not (node.over or node.leaving)]
        return self._chance.choice(nodes) if nodes else None

    async def kill(self, silent: bool = False) -> None:
        """Kill a node; another one takes its place."""
        if (node := self._node()) is not None:
            self._world.node_fails(node)
            node.die(silent)
            await asyncio.sleep(self._chance.choice([0.0, 0.5, 3.0]))
            self._world.start_node(node.slot)

    async def vanish(self) -> None:
        """Kill a node without a word to its clients."""
        await self.kill(silent=True)

    async def stand(self) -> None:
        """Let a node stand still, for longer than its lease or shorter."""
        world = self._world
        if (node := self._node()) is not None and not world.loop.stands(node):
            began = world.loop.time()
            world.node_fails(node)
            node.stand_still()
            await asyncio.sleep(self._chance.choice([0.05, 0.5, 2.0, 6.0]))
            node.go_on()
            if world.was_store_away(began):  # it comes back to the store later than others
                world.lately_cut_off.add(node)
                await self._repaired(node)

    async def hang(self) -> None:
        """Let a node stand still for so long that others must have its sessions meanwhile."""
        world = self._world
        if (node := self._node()) is not None and not world.loop.stands(node) and not world.hung:
            world.node_fails(node)
            node.stand_still()
            world.hung = node
            world.loop.arrive(world.loop.time() + HANG_S, world.revive)
            await asyncio.sleep(world.settings.lease_s + 1.0)

    async def _repaired(self, node: SimulatedNode) -> None:
        """Wait until a node that was cut off has written everything anew."""
        await asyncio.sleep(REPAIR_S)
        if node not in self._world.store.cut_off:
            self._world.lately_cut_off.discard(node)

    async def deploy(self) -> None:
        """End a node in order; another one follows."""
        world = self._world
        if (node := self._node()) is not None:
            began = world.loop.time()
            world.node_fails(node)
            await node.stop()
            if world.was_store_away(began) or not node.stores:
                world.risk |= node.opened
            world.start_node(node.slot)

    async def store_down(self) -> None:
        """End the store, and start it again with what it had."""
        store = self._world.store
        if store.up:
            with self._world.store_is_away():
                store.stop()
                await asyncio.sleep(self._chance.choice([0.01, 0.5, 4.0]))
                store.start()

    async def store_stands(self) -> None:
        """Let the store stand still."""
        store = self._world.store
        if store.up and not store.stands:
            with self._world.store_is_away():
                store.stand_still()
                await asyncio.sleep(self._chance.choice([0.1, 1.0, 4.0]))
                store.go_on()

    async def store_vanishes(self) -> None:
        """Let nothing reach the store for a while."""
        store = self._world.store
        if not store.unreachable:
            with self._world.store_is_away():
                store.unreachable = True
                await asyncio.sleep(self._chance.choice([0.1, 1.0, 4.0]))
                store.unreachable = False

    async def store_slow(self) -> None:
        """Let the store be slow for a while."""
        store = self._world.store
        with self._world.store_is_away():
            store.slow_s = self._chance.choice([0.1, 0.6])
            await asyncio.sleep(self._chance.uniform(0.5, 3))
            store.slow_s = 0.0

    def _is_down(self) -> bool:
        return not self._world.store.up

    async def roll_back(self, behind_a_proxy: bool = False) -> None:
        """Let the store forget its last moments, or more."""
        world, store = self._world, self._world.store
        if not store.up:
            return
        copy = store.model.copy()
        if self._copies and self._chance.random() < 0.4:
            copy = self._copies.pop(self._chance.randrange(len(self._copies)))
        await asyncio.sleep(self._chance.choice([0.01, 0.1, 1.0]))
        if self._is_down():
            return
        with world.store_is_away():
            if not behind_a_proxy:
                store.stop()
                await asyncio.sleep(self._chance.choice([0.0, 0.5]))
            store.model.restore(copy)
            world.store_forgets()
            if not behind_a_proxy:
                store.start()

    async def roll_back_behind_a_proxy(self) -> None:
        """Let the store forget while connections stay, as behind a proxy."""
        await self.roll_back(behind_a_proxy=True)

    async def flush(self) -> None:
        """Let the store forget everything."""
        with self._world.store_is_away():
            self._world.store.model.flush()
            self._world.store_forgets()

    async def break_lines(self) -> None:
        """Let connections to the store break, before or after an effect."""
        store = self._world.store
        with self._world.store_is_away():
            store.breaks = self._chance.choice([0.02, 0.3])
            await asyncio.sleep(self._chance.uniform(0.1, 2))
            store.breaks = 0.0

    async def cut_off(self) -> None:
        """Cut one node off from the store."""
        if (node := self._node()) is not None:
            with self._world.store_is_away():
                self._world.node_fails(node)
                self._world.store.cut_off.add(node)
                self._world.lately_cut_off.add(node)
                await asyncio.sleep(self._chance.choice([0.3, 2.0, 6.0]))
                self._world.store.cut_off.discard(node)
            await self._repaired(node)

    # --- between nodes -----------------------------------------------------------------------------

    async def peers_cut(self, half: bool = False) -> None:
        """Let nothing arrive between two machines, which TCP sends again afterwards."""
        network, chance = self._world.network, self._chance
        one, two = (chance.randrange(self._world.machines) for _ in range(2))
        ways = {(one, two)} if half else {(one, two), (two, one)}
        ways = ways - network.blocked if one != two else set()  # nothing is between processes of one machine
        network.block(ways)
        await asyncio.sleep(chance.choice([0.1, 1.0, 6.0, 12.0]))
        network.unblock(ways)

    async def half_open(self) -> None:
        """Let nothing arrive in one direction between two machines."""
        await self.peers_cut(half=True)

    async def peers_late(self) -> None:
        """Let everything between nodes be late for a while."""
        network, chance = self._world.network, self._chance
        network.slow_s = chance.choice([0.05, 0.5, 3.0])
        await asyncio.sleep(chance.uniform(0.5, 4))
        network.slow_s = 0.0

    async def peers_reset(self) -> None:
        """Reset connections between nodes, in the middle of a letter."""
        for _ in range(self._chance.choice([1, 10])):
            self._world.network.reset(self._chance.choice([0.3, 1.0]))
            await asyncio.sleep(self._chance.random() * 0.3)
