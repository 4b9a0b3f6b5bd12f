"""Faults of nodes and of the store, one after the other, drawn from a seed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random

from processes import HERE, ServerProcess, server
from resuming_customer import AGENT
from valkey_process import ValkeyProcess

from .machines import HUB, Network, Place

PEER_PORT = 9000


class Cluster:
    """Nodes and their store.

    Args:
        folder: Where they run.
        store: The store.
        lease_s: Lease of the nodes.
        stack: Ends the nodes.
        places: Machines of the nodes and, last, of the store; None if all are in this one.
        network: The ways between the machines.
    """

    def __init__(
        self,
        folder: Path,
        store: ValkeyProcess,
        lease_s: float,
        stack: AsyncExitStack,
        places: Sequence[Place] = (),
        network: Network | None = None,
    ) -> None:
        (folder / "agents.py").write_text(AGENT)
        self._folder, self._stack, self.lease_s = folder, stack, lease_s
        self.store, self.places, self.network = store, places, network
        self.nodes: list[ServerProcess] = []

    async def start(self, count: int) -> None:
        """Start the nodes."""
        self.nodes = list(await asyncio.gather(*(self._node(index, 0) for index in range(count))))

    async def _node(self, index: int, port: int) -> ServerProcess:
        options = [
            "--store", self.store.url, "--lease-s", str(self.lease_s), "--max-client-share", "1",
            "--max-requests-per-s", "1000", "--log-level", "warning",
        ]  # fmt: skip
        machine = self.places[index].machine if self.places else HERE
        if self.places:
            options += ["--peer", f"{machine.host}:{PEER_PORT}", "--heartbeat-s", "1"]
        node = server("agents:talk", self._folder, *options, port=port, machine=machine)
        return await self._stack.enter_async_context(node)

    async def restart(self, index: int) -> None:
        """Start a node anew that has ended."""
        self.nodes[index] = await self._node(index, self.nodes[index].port)


class Faults:
    """Faults of a cluster.

    Args:
        cluster: The cluster.
        random: Source of the decisions.
        say: Prints a line.
    """

    def __init__(self, cluster: Cluster, random: Random, say: Callable[[str], None]) -> None:
        self._cluster, self._random, self._say = cluster, random, say
        self.counts: dict[str, int] = {}
        self._length = 0  # of the store's file, a second ago
        self.kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "kill": self.kill,
            "stop": self.stop,
            "deploy": self.deploy,
            "store_kill": self.store_kill,
            "store_stop": self.store_stop,
            "store_rollback": self.store_rollback,
            "store_flush": self.store_flush,
            "drop_connections": self.drop_connections,
            "flush_scripts": self.flush_scripts,
            "cut_from_store": self.cut_from_store,
            "cut_from_peers": self.cut_from_peers,
            "cut_from_users": self.cut_from_users,
            "cut_from_all": self.cut_from_all,
        }

    async def run(self, over: asyncio.Event, kinds: list[str], pause_s: float) -> None:
        """Make one fault after the other until it is over; each is repaired before the next."""
        while not over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.uniform(0.5, 1.5) * pause_s):
                    await over.wait()
                    return
            kind = self._random.choice(kinds)
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self._say(kind)
            await self.kinds[kind]()

    def _index(self) -> int:
        return self._random.randrange(len(self._cluster.nodes))

    async def kill(self) -> None:
        """Kill a node; it is started again."""
        index = self._index()
        await self._cluster.nodes[index].kill()
        await asyncio.sleep(self._random.uniform(0, 1))
        await self._cluster.restart(index)

    async def stop(self) -> None:
        """Let a node stand still, for longer than its lease or shorter."""
        node = self._cluster.nodes[self._index()]
        node.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(0.2, 3.0))
        node.process.send_signal(signal.SIGCONT)

    async def deploy(self) -> None:
        """End a node in order; a new one follows."""
        index = self._index()
        node = self._cluster.nodes[index]
        node.process.send_signal(signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(4):
                await node.process.wait()
        await node.kill()
        await self._cluster.restart(index)

    async def store_kill(self) -> None:
        """Kill the store; it is started again."""
        await self._cluster.store.kill()
        await asyncio.sleep(self._random.uniform(0, 4))
        await self._cluster.store.start()

    async def store_stop(self) -> None:
        """Let the store stand still."""
        self._cluster.store.signal(signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(0.1, 4))
        self._cluster.store.signal(signal.SIGCONT)

    async def store_rollback(self) -> None:
        """Let the store forget its last second or less, as a failover does."""
        store = self._cluster.store
        length = await asyncio.to_thread(store.file_size)
        await asyncio.sleep(self._random.uniform(0.05, 1))
        await store.kill()
        await asyncio.to_thread(store.cut_file, length)
        await store.start()

    async def store_flush(self) -> None:
        """Let the store forget everything."""
        await self._cluster.store.do("FLUSHALL")

    async def drop_connections(self) -> None:
        """Drop all connections of the store, several times."""
        for _ in range(self._random.randrange(1, 6)):
            await self._cluster.store.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(self._random.uniform(0, 0.2))

    # --- between machines --------------------------------------------------------------------------

    async def cut_from_store(self) -> None:
        """Cut the way of a node to the store, for longer than its lease or shorter."""
        await self._cut(self._index(), self._cluster.places[-1:])

    async def cut_from_peers(self) -> None:
        """Cut the ways of a node to the others."""
        index = self._index()
        await self._cut(index, self._peers(index))

    async def cut_from_users(self) -> None:
        """Cut the way of a node to its users."""
        await self._cut(self._index(), [HUB])

    async def cut_from_all(self) -> None:
        """Cut all ways of a node."""
        index = self._index()
        await self._cut(index, [*self._peers(index), *self._cluster.places[-1:], HUB])

    def _peers(self, index: int) -> list[Place]:
        nodes = self._cluster.places[:-1]
        return [place for number, place in enumerate(nodes) if number != index]

    async def _cut(self, index: int, others: Sequence[Place]) -> None:
        cluster = self._cluster
        assert cluster.network is not None
        for other in others:
            await cluster.network.cut(cluster.places[index], other)
        await asyncio.sleep(self._random.choice([0.3, 0.7 * cluster.lease_s, 2 * cluster.lease_s]))
        for other in others:
            await cluster.network.heal(cluster.places[index], other)

    async def flush_scripts(self) -> None:
        """Let the store forget its scripts."""
        await self._cluster.store.do("SCRIPT", "FLUSH")
