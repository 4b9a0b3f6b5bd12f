"""One server of the cluster, and the lines of its clients."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

import bargein_protocol as bp
from bargein_protocol import JSON
from bargein_protocol.errors import ABNORMAL, RESTART
from bargein_server import Output, Turn
from bargein_server.hosting.registry import SessionRegistry
from bargein_server.transport.connection import Connection

from .loop import Standing
from .network import SimulatedSocket
from .peer import PORT, SimulatedPeer
from .store import store_of_node

if TYPE_CHECKING:
    from .customer import Customer
    from .world import ClusterWorld

FULL = 20
"""Frames under way to a client above which its line takes no more output."""


class Line:
    """A client's line to a node: a `Wire` at the node's end.

    Attributes:
        node: The node.
        over: Whether the client knows that it is gone.
    """

    def __init__(self, world: ClusterWorld, node: SimulatedNode, client: Customer) -> None:
        self.node = node
        self.over = False
        self._world = world
        self._client = client
        self._down: deque[bytes | bp.Code] = deque()
        self._last_down = self._last_up = 0.0
        self._severed = False
        node.lines[self] = None
        self._connection = node.enter(Connection, self, JSON, node.sessions)

    def _due(self, last: float) -> float:
        world = self._world
        return max(last, world.loop.time() + world.chance.random() ** 3 * world.delay_s)

    # --- down: the node's end ----------------------------------------------------------------------

    def write(self, frames: Sequence[bytes]) -> None:
        """Send frames."""
        if not self._severed:
            self._send_down(frames)

    def close(self, code: bp.Code) -> None:
        """Send the end behind everything."""
        if not self._severed:
            self._send_down([code])

    def abort(self) -> None:
        """Drop the line."""
        self.close(ABNORMAL)

    @property
    def writable(self) -> bool:
        """Whether little is under way to the client."""
        return len(self._down) < FULL

    def _send_down(self, items: Sequence[bytes | bp.Code]) -> None:
        self._down.extend(items)
        self._last_down = self._due(self._last_down)
        self._world.loop.arrive(self._last_down, self._arrive)

    def _arrive(self) -> None:
        full, down, self._down = not self.writable, self._down, deque()
        if full:
            self._in_node(self._connection.writable_again)
        for item in down:
            if self.over:
                return
            if isinstance(item, bytes):
                self._client.receive(self, item)
            else:
                self._lose_at_client(item)

    def _lose_at_client(self, code: bp.Code) -> None:
        if not self.over:
            self.over = True
            self._client.lost(self, code)
            self._world.loop.arrive(self._due(self._last_up), self._lose_at_node)

    def sever(self, silent: bool) -> None:
        """Lose the line, and what is under way from some frame on.

        Args:
            silent: Whether the client is not told; it notices by the silence.
        """
        if self._severed:
            return
        self._severed = True
        kept = self._world.chance.randint(0, len(self._down))
        while len(self._down) > kept:
            self._down.pop()
        if not silent:
            self._world.loop.arrive(self._due(self._last_down), lambda: self._lose_at_client(ABNORMAL))

    # --- up: the client's end ----------------------------------------------------------------------

    def send(self, event: bp.ClientEvent) -> None:
        """Send an event."""
        frame = JSON.encode(event)
        self._last_up = self._due(self._last_up)
        self._world.loop.arrive(self._last_up, lambda: self._arrive_up(frame))

    def _arrive_up(self, frame: bytes) -> None:
        self._in_node(lambda: self._connection.receive(frame, True))

    def _in_node(self, act: Callable[[], object]) -> None:
        """Do something as the node, when it runs."""
        if self._severed or self.node.over:
            return
        if self._world.loop.stands(self.node):
            self.node.inbox.append(lambda: self._in_node(act))
        else:
            self.node.enter(act)

    def leave(self) -> None:
        """Drop the line at the client's end."""
        self.over = True
        self._world.loop.arrive(self._due(self._last_up), self._lose_at_node)

    def _lose_at_node(self) -> None:
        self._severed = True
        node = self.node
        if node.over:
            return
        if self._world.loop.stands(node):
            node.inbox.append(self._lose_at_node)
        elif self in node.lines:
            del node.lines[self]
            node.enter(self._connection.disconnected)


class SimulatedNode(Standing):
    """One server.

    Attributes:
        number: Its number among all that there ever were.
        slot: Its place, which another node takes after it.
        machine: Its machine.
        started_at: When it was started.
        vanished: Whether it has died without a word.
        dead: Whether it was killed.
        over: Whether it was killed, or has ended in order.
        leaving: Whether it ends in order.
        sessions: Its sessions.
        opened: Sessions whose clients have a token of it.
        peer: Its part among the others; None where nodes do not reach one another.
        lines: Lines of its clients.
        inbox: What has arrived while it stands still.
    """

    def __init__(self, world: ClusterWorld, number: int, slot: int, skew_s: float) -> None:
        super().__init__()
        self.number = number
        self.started_at = world.loop.time()
        self.slot = slot
        self.machine = slot % world.machines
        self.vanished = False
        self.dead = self.over = self.leaving = False
        self.lines: dict[Line, None] = {}  # in order: the run follows from its seed
        self.inbox: list[object] = []
        self._world = world
        self.skew_s = skew_s
        self.sessions: SessionRegistry
        self.opened: set[bp.SessionId] = set()
        self.peer: SimulatedPeer | None = None
        self.enter(self._start)

    def _start(self) -> None:
        world = self._world
        self.peer = (
            SimulatedPeer(world.network, self, world.chance_of(f"node {self.number}"))
            if world.peers
            else None
        )
        self.sessions = SessionRegistry(
            self._answer, world.settings, context=self.context(), store=store_of_node(world.store, self),
            elsewhere=self.peer,
        )  # fmt: skip
        keeper = self.sessions.keeper
        assert keeper is not None
        assert keeper.membership is not None
        if self.peer is not None:
            self.peer.begin(self.sessions)
        keeper.membership.peer = self.address  # tells the port of a dead node from others

    @property
    def address(self) -> str:
        """Where nodes of other machines reach it."""
        return f"node-{self.number}:{PORT}"

    @property
    def refuses_peers(self) -> bool:
        """Whether it accepts no connections of other nodes any more."""
        return self.over or self.peer is None or not self.peer.listens

    def accept(self, sock: SimulatedSocket) -> None:
        """Serve a connection of another node."""
        assert self.peer is not None
        self.peer.accept(sock)

    @property
    def name(self) -> str:
        """Its name in the store."""
        keeper = self.sessions.keeper
        assert keeper is not None
        assert keeper.membership is not None
        return keeper.membership.name

    async def _answer(self, turn: Turn) -> AsyncIterator[Output]:
        async for output in self._world.agents.answer(turn, self):
            yield output

    @property
    def healthy(self) -> bool:
        """Whether it runs, and reaches the store."""
        standing = self.over or self._world.loop.stands(self) or self.sessions.draining
        return not standing and self not in self._world.store.cut_off

    @property
    def stores(self) -> bool:
        """Whether it has reached the store lately."""
        return self.sessions.keeper is not None and self.sessions.keeper.health.works

    def die(self, silent: bool) -> None:
        """Be killed, in this very step."""
        self.dead = self.over = True
        self.vanished = silent
        self._world.loop.stand_still(self)
        for line in tuple(self.lines):
            line.sever(silent)
        self._world.network.lose_node(self, silent)

    def stand_still(self) -> None:
        """Be stopped."""
        self._world.loop.stand_still(self)

    def go_on(self) -> None:
        """Go on, and take what has arrived meanwhile."""
        if not self.over and self._world.loop.stands(self):
            self._world.loop.go_on(self)
            inbox, self.inbox = self.inbox, []
            for arrived in inbox:
                self._world.loop.arrive(self._world.loop.time(), arrived)  # type: ignore[arg-type]

    async def stop(self) -> None:
        """End in order, as at SIGTERM."""
        self.leaving = True
        loop, began = self._world.loop, self._world.loop.time()
        stopping = self.enter(loop.create_task, self.sessions.shut_down())
        await asyncio.wait([stopping])
        stuck = stopping.result()
        self._world.expect(not stuck, f"{stuck} tasks are stuck")
        if self.peer is not None:
            await asyncio.wait([self.enter(loop.create_task, self.peer.stop(began))])
        for line in tuple(self.lines):
            self.enter(line._connection.close, RESTART)
        await asyncio.sleep(0.01)
        for line in tuple(self.lines):
            self.enter(line._connection.disconnected)
        for task in [task for task in self.tasks if task.get_name() == "prepare session"]:
            task.cancel()  # as the end of the event loop does
        await asyncio.sleep(0.01)
        self.over = True
        self._world.network.lose_node(self, silent=False)
        for line in tuple(self.lines):
            line.sever(False)
        loop.stand_still(self)

    async def bury(self) -> None:
        """End the tasks of a killed node; nothing that they do has an effect."""
        loop = self._world.loop
        loop.go_on(self)
        for host in tuple(self.sessions):
            self.enter(host.forgotten)
        for _ in range(20):
            tasks = set(self.tasks)
            if not tasks:
                return
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)
