"""One run from a seed: nodes that share a store, their clients, and faults."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any
from unittest.mock import patch

from msgspec import Struct

import bargein_protocol as bp
from bargein_server.cluster import peers
from bargein_server.hosting import membership, registry
from bargein_server.settings import Settings
from bargein_server.settings_reader import settings_from
from bargein_server.stores import redis_store

from ..loop import Stuck
from ..seams import seeded
from ..trace import Trace
from .agents import Agents
from .customer import Customer
from .faults import NODE_FAULTS, PEER_FAULTS, REPAIR_S, STORE_FAULTS, Faults
from .loop import NODE, NodeLoop
from .network import PeerNetwork
from .node import SimulatedNode
from .store import StoreServer

SETTLE_S = 8.0
"""Time in which all is as it should be after the last fault."""


class ClusterResult(Struct):
    """What came of a run.

    Args:
        seed: Its seed.
        fault: What is wrong; None when nothing is.
        digest: The hash of everything that clients were told.
        events: Numbered events that clients received.
        resumed: Resumes.
        snapshots: Resumes with a snapshot.
        piped: Clients that a node has served through another one.
        lost: Sessions that were lost, and told, by two faults at a time.
        faults: Number of faults by kind.
        seconds: How long it took, in virtual seconds.
    """

    seed: str
    fault: str | None
    digest: str
    events: int
    resumed: int
    snapshots: int
    piped: int
    lost: int
    faults: dict[str, int]
    seconds: float


class _Clock:
    """The part of the module `time` that the server uses, in virtual time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.monotonic = now

    def time(self) -> float:
        """Return the time of the running node's clock, which differs from the store's."""
        node = NODE.get()
        return self.monotonic() + (node.skew_s if node is not None else 0.0)


class ClusterWorld:
    """See the module.

    Args:
        seed: Everything follows from it.
        print_line: Takes a readable trace; None for none.

    Attributes:
        known: Sessions that clients have had.
        risk: Sessions that may be lost by now, because two faults came together.
        told: Frame of each number of each session that a client was given.
        wrong: Number of faults that are not repaired.
        peers: Whether nodes reach one another.
        machines: Number of machines, which share the nodes.
        network: The network between nodes.
        hung: A node that stands still for so long that balancers send nobody to it.
        lately_cut_off: Nodes that did not reach the store until a moment ago.
        calm_since: When the last fault was repaired; infinite while one is not.
    """

    def __init__(self, seed: str, print_line: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(f"{seed} cluster")
        self.loop = NodeLoop(random.Random(f"{seed} loop"))
        self.trace = Trace(self.loop.time, print_line)
        self.faults_found: list[str] = []
        self.known: set[bp.SessionId] = set()
        self.risk: set[bp.SessionId] = set()
        self.told: dict[tuple[bp.SessionId, int], bytes] = {}
        self.wrong = 0
        self.calm_since = 0.0
        self.resumed = self.snapshots = self.lost_sessions = self.taken_back = self.piped = 0
        self.delay_s = self.chance.choice([0.0, 0.002, 0.05])
        self.pause_s = self.chance.choice([0.05, 0.5, 2.0])
        self.actions = self.chance.choice([5, 20, 40])
        actions = ("interrupt", "leave", "double", "repeat", "playback")
        self.mood = ["ask"] * 5 + [each for each in actions for _ in range(self.chance.choice([0, 1, 2]))]
        self.settings = self._settings()
        self.store = StoreServer(self.loop, self.chance_of("store"), self.chance.choice([0.0, 0.002, 0.02]))
        self.nodes: list[SimulatedNode] = []
        self.agents = Agents(self)
        self._buried: list[SimulatedNode] = []
        self._over = False
        self.lately_cut_off: set[SimulatedNode] = set()
        self.hung: SimulatedNode | None = None
        self._away_until = 0.0
        self._away = 0
        self._skew_s = self.chance.choice([0.0, 5.0, 7200.0])
        self._faults = Faults(self)
        self._refusing = self.chance.random() < 0.7  # whether nodes are on one machine
        self.peers = self.chance.random() < 0.6  # whether nodes reach one another
        self.machines = self.chance.choice([1, 2, 4])
        self.network = PeerNetwork(self.loop, self.chance_of("network"), self.delay_s)
        self._block_for_good()

    def chance_of(self, name: str) -> random.Random:
        """Return a source of chance of its own."""
        return random.Random(f"{self.seed} {name}")

    def _block_for_good(self) -> None:
        """Let machines not reach one another in some runs, which then have their store alone."""
        if self.machines > 1 and self.chance.random() < 0.25:
            one, two = self.chance.sample(range(self.machines), 2)
            self.network.block({(one, two)} if self.chance.random() < 0.5 else {(one, two), (two, one)})

    def _settings(self) -> Settings:
        chance = self.chance
        return settings_from(
            {
                "lease_s": chance.choice([1.0, 2.0, 4.0]),
                "store_flush_s": chance.choice([0.02, 0.1]),
                "heartbeat_s": 1.0,
                "drain_s": chance.choice([0.0, 1.0, 3.0]),
                "resume_s": chance.choice([20.0, 120.0]),
                "max_client_share": 1.0,
                "max_log_events": chance.choice([16, 4096]),
                "max_messages_per_s": 500,
                "confirm_s": 5.0,
            }
        )

    def expect(self, condition: object, rule: str) -> None:
        """Note a fault unless the condition is true; the run stops at the first."""
        if not condition and not self._over:
            self.trace.note("world", "FAULT", rule.encode())
            self.faults_found.append(rule)
            self._over = True
            self.loop.stop()

    # --- nodes ---------------------------------------------------------------------------------------

    def start_node(self, slot: int) -> None:
        """Start a node in a place."""
        number = len(self._buried) + len(self.nodes)
        node = SimulatedNode(self, number, slot, self.chance.uniform(-1, 1) * self._skew_s)
        if slot == len(self.nodes):
            self.nodes.append(node)
        else:
            self._buried.append(self.nodes[slot])
            self.nodes[slot] = node

    def node_for(self, chance: random.Random) -> SimulatedNode | None:
        """Return a node that accepts a line, None when the chosen one does not."""
        node = chance.choice(self.nodes)
        return None if node.over or node.sessions.draining or node is self.hung else node

    def revive(self) -> None:
        """Let a node go on that has hung."""
        node, self.hung = self.hung, None
        if node is not None:
            node.go_on()

    async def refuses(self, encoded: str) -> bool:
        """Return whether the port of a node on the same machine refuses."""
        await asyncio.sleep(self.chance.random() * 0.001)
        living = any(f'"{node.address}"' in encoded and not node.over for node in self.nodes)
        return self._refusing and not living

    async def _connect_machine(self, host: str, port: int) -> Any:
        return await self.network.connect(f"{host}:{port}", local=False)

    async def _connect_worker(self, path: Path) -> Any:
        return await self.network.connect(path.name, local=True)

    # --- what may be lost ------------------------------------------------------------------------------

    def node_fails(self, node: SimulatedNode) -> None:
        """Note that a node is about to fail: what only it has is at risk while the store is not whole."""
        self.calm_since = inf
        unsaved = self._away or self.loop.time() < self._away_until or node in self.lately_cut_off
        for host in node.sessions:
            if unsaved:
                self.risk.add(host.core.identity.session_id)

    @contextmanager
    def store_is_away(self) -> Iterator[None]:
        """Note that the store is not whole, from now on and for a while after the block."""
        self._away += 1
        self.calm_since = inf
        for session_id in self.known:
            if not self._is_owned(session_id):
                self.risk.add(session_id)
        try:
            yield
        finally:
            self._away -= 1
            self._away_until = self.loop.time() + REPAIR_S

    def was_store_away(self, since: float) -> bool:
        """Return whether the store was not whole at any moment since a time."""
        return bool(self._away) or self._away_until > since

    def store_forgets(self) -> None:
        """Note that the store has forgotten: what no living node has is at risk."""
        for session_id in self.known:
            if not self._is_owned(session_id):
                self.risk.add(session_id)

    def at_risk(self, session_id: bp.SessionId) -> bool:
        """Return whether a session may be lost, also because a node has it that was cut off."""
        now = self.loop.time()
        away = self._away or now < self._away_until
        new = any(now - node.started_at < REPAIR_S for node in self.nodes)  # it has seen no outage
        if away and new:
            self.risk.add(session_id)
        if any(node.sessions.has(session_id) for node in self.nodes if node in self.lately_cut_off):
            self.risk.add(session_id)
        return session_id in self.risk

    def _is_owned(self, session_id: bp.SessionId) -> bool:
        away = self.was_store_away(self.loop.time())  # lately: a node may still wait for an answer
        living = [node for node in self.nodes if node.healthy and (node.stores or not away)]
        return any(node.sessions.has(session_id) for node in living)

    def note_repair(self) -> None:
        """Note that a fault was repaired."""
        self.calm_since = inf if self.wrong else self.loop.time()

    # --- the run ---------------------------------------------------------------------------------------

    def run(self) -> ClusterResult:
        """Let everything happen, then see that nothing is left."""
        fault: str | None = None
        clock = _Clock(self.loop.time)
        logging.disable(logging.CRITICAL)
        gc.disable()  # a collector that runs at other times would close generators at other times
        try:
            with (
                seeded(random.Random(f"{self.seed} server"), self.loop.look_at_clock),
                patch.object(membership, "_machine", lambda: ""),
                patch.object(membership, "_refuses", self.refuses),
                patch.object(registry, "time", clock),
                patch.object(redis_store, "time", clock),
                patch.object(peers, "connect_machine", self._connect_machine),
                patch.object(peers, "connect_worker", self._connect_worker),
            ):
                asyncio.set_event_loop(self.loop)
                try:
                    self.loop.run_until_complete(self._run())
                except Stuck as stuck:
                    fault = str(stuck)
                except RuntimeError:
                    if not self.faults_found:  # else the world has stopped the loop
                        raise
                finally:
                    self._clear_away()
        finally:
            gc.enable()
            logging.disable(logging.NOTSET)
            asyncio.set_event_loop(None)
        fault = next(iter(self.faults_found), fault)
        events = sum(customer.events for customer in self.customers)
        return ClusterResult(
            self.seed, fault, self.trace.digest(), events, self.resumed, self.snapshots,
            self.piped, self.lost_sessions, self._faults.counts, self.loop.time(),
        )  # fmt: skip

    async def _run(self) -> None:
        chance = self.chance
        for slot in range(chance.choice([2, 2, 3, 4])):
            self.start_node(slot)
        self.customers = [Customer(self, number) for number in range(chance.randint(2, 10))]
        nodes, store, peers = chance.choice(
            [(1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1)]
        )
        possible = NODE_FAULTS * nodes + STORE_FAULTS * store + PEER_FAULTS * (peers and self.peers)
        kinds = [each for each in possible if chance.random() < 0.6]
        breaking = self.loop.create_task(self._faults.run(kinds, chance.choice([0.3, 1.0, 4.0])))
        working = [self.loop.create_task(customer.run()) for customer in self.customers]
        await asyncio.wait(working)
        for each in working:
            each.result()
        breaking.cancel()
        await asyncio.wait([breaking])
        self.revive()
        await asyncio.sleep(SETTLE_S)
        self._check_owners()
        for node in self.nodes:
            await node.stop()
        await self._bury()
        self._check_residue()

    def _check_owners(self) -> None:
        """No two nodes have a session, and the one that has it is named by the store.

        A node that was cut off may keep one that its client has closed elsewhere, until it writes or expires.
        """
        for session_id in self.known:
            having = [node for node in self.nodes if not node.over and node.sessions.has(session_id)]
            self.expect(len(having) <= 1, f"{session_id} is in {len(having)} nodes")
            fence = (self.store.model._get(f"bargein:{{{session_id}}}:m") or {}).get(b"f", b"").decode()
            closed = self.store.model._get(f"bargein:{{{session_id}}}:x") is not None
            if having and not closed:
                self.expect(fence.endswith(having[0].name), f"{session_id}: the store names {fence}")

    async def _bury(self) -> None:
        for node in [*self._buried, *self.nodes]:
            await node.bury() if node.dead else None

    def _check_residue(self) -> None:
        for node in [*self._buried, *self.nodes]:
            self.piped += node.peer.hand_over.done["pipe"] if node.peer is not None else 0
            if not node.dead:
                left = sorted(task.get_name() for task in node.tasks if not task.done())
                left += node.peer.residue() if node.peer is not None else []
                self.expect(not left, f"a node has ended, and these are left: {left}")
        sockets = [each.node.number for each in self.network.sockets]
        self.expect(not sockets, f"sockets of the nodes {sockets} are open")
        keys = self.store.model.keys()
        eternal = [key for key in keys if key not in self.store.model.expiries]
        self.expect(not eternal, f"keys never expire: {eternal}")
        self.expect(not self.loop.complaints, f"the loop complained: {self.loop.complaints}")

    def _clear_away(self) -> None:
        """End all tasks of a run that was stopped in the middle, or they would complain when collected."""
        self._over = True
        for node in [*self._buried, *self.nodes]:
            node.over = True
            self.loop.go_on(node)
        for _ in range(100):
            self.loop.calm()
            tasks = asyncio.all_tasks(self.loop)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            with suppress(RuntimeError, Stuck):
                self.loop.run_until_complete(asyncio.sleep(1.0))


def simulate_cluster(seed: str, print_line: Callable[[str], None] | None = None) -> ClusterResult:
    """Run a seed."""
    world = ClusterWorld(seed, print_line)
    try:
        return world.run()
    finally:
        world.loop.close()
