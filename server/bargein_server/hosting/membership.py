"""Membership of a server among the nodes that share its store.

A node renews its lease ten times a second. The answer shows whether the store has forgotten something, and
brings the requests of other nodes. Safety does not depend on any of this: a claim changes the fence, and
whoever has the old one cannot write. A lease only decides when a claim is due.

On the same machine a node that died is noticed at once: its port on the loopback refuses.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bargein_protocol import SessionId

from ..stores.interface import StoredSession, StoreError
from ..stores.shared import WORKER_CHARS, MoveRequest, Node, SharedStore

log = logging.getLogger("bargein.store")

BEAT_S = 0.1
"""Interval of the beats."""

YOUNG_S = 1.0
"""Time in which living owners repair a store that was late, before anybody relies on it."""

AWAY_S = 2.5
"""The same after an outage: an owner may be in an attempt to connect, which ends after 2 s."""

FIRST_S = 3 * BEAT_S
"""Time after a node's first beat in which living owners notice a store that has just forgotten something."""

SLOW_S = 0.25
"""Time of a request after which the store counts as one that was away."""

PROBE_S = 0.5
"""Time for a connection to another node's port."""

Asked = Callable[[MoveRequest], Awaitable[str]]
"""Answers the request of another node for a session."""

RELEASED, BUSY, REFUSED, GONE = "released", "busy", "refused", "gone"
"""Answers to a request: the store has it, a turn runs, the token is wrong, the node does not have it."""

FREE, MOVED, PORT, LEASE, FORGOTTEN = REASONS = ("free", "moved", "port", "lease", "forgotten")
"""Reasons of a claim: its owner had released the session before; has released it when asked; is dead, because
its port refuses, or because its lease is over; lives and does not have it."""


class Address(Struct, frozen=True):
    """Where other nodes reach a node.

    Args:
        machine: Name of its machine and network, since the machine's start; empty where that is not known.
        port: Its port on the loopback.
        peer: Where processes of other machines reach it, `HOST:PORT`; empty when they do not.
    """

    machine: str = ""
    port: int = 0
    peer: str = ""


class Membership:
    """Membership of this server.

    Args:
        store: The store.
        lease_s: Time without a beat after which others may claim its sessions.
        name: Name of this node, new at each start.

    Attributes:
        name: Name of this node.
        peer: Where processes of other machines reach it, `HOST:PORT`; empty when they do not.
        asked: Answers requests; set before the first beat.
        holds: Returns whether a node has a session, which it answers itself; None when nodes do not reach one
            another.
        claimed: Number of sessions that it has claimed, by the reason (`REASONS`).
        released: Number of sessions that it has released because another node asked.
        rollbacks: How often the store did not have what this node had written.
    """

    def __init__(self, store: SharedStore, lease_s: float, name: str) -> None:
        self.name = name
        self.peer = ""
        self.lease_s = lease_s
        self.asked: Asked | None = None
        self.holds: Callable[[SessionId, str], Awaitable[bool]] | None = None
        self.claimed: Counter[str] = Counter()
        self.released = self.rollbacks = 0
        self._store = store
        self._listener: asyncio.Server | None = None
        self._address = Address()
        self._loop = asyncio.get_running_loop()
        self._young_until = 0.0
        self._beaten_at = self._loop.time()
        self._left = False
        self._answers: set[asyncio.Task[None]] = set()

    @property
    def _node(self) -> Node:
        address = replace(self._address, peer=self.peer)
        return Node(self.name, msgspec.json.encode(address).decode())

    def gauges(self) -> dict[str, float]:
        """Return figures for metrics, by the names of the metrics."""
        return {
            "bargein_store_rollbacks": self.rollbacks,
            "bargein_sessions_moved": self.released,
            **{f"bargein_sessions_claimed/{why}": self.claimed[why] for why in REASONS},
        }

    # --- beats -----------------------------------------------------------------------------------

    async def join(self, after_outage: bool) -> bool:
        """Beat once after the store opened; return the same as `beat`.

        Args:
            after_outage: Whether the store was away before, so that it may have gone back.

        Raises:
            StoreError: The store cannot be used.
        """
        if self._listener is None and (machine := _machine()):
            self._listener = await asyncio.start_server(_hang_up, "127.0.0.1", 0)
            self._address = Address(machine, self._listener.sockets[0].getsockname()[1])
        forgot = await self.beat()
        # A new node as well leaves others the time to notice what the store has forgotten.
        young_s = AWAY_S if after_outage else FIRST_S
        self._young_until = max(self._young_until, self._loop.time() + young_s)
        return forgot

    async def beat(self) -> bool:
        """Renew the lease; return whether sessions may not be stored as they are.

        The store has forgotten something, or the lease was over, so that others may have claimed them.

        Raises:
            StoreError: The store cannot be used.
        """
        if self._left:  # its mark is gone: that would look as if the store had forgotten it
            return False
        began = self._loop.time()
        beat = await self._store.beat(self._node, self.lease_s)
        # From the time of the request: its answer may have waited for this process, which stood still.
        late, self._beaten_at = began - self._beaten_at > self.lease_s, began
        self.answered(began)
        if beat.young_s:
            self._young_until = max(self._young_until, self._loop.time() + beat.young_s)
        for request in beat.requests:
            came_at = self._loop.time() - request.age_s
            task = self._loop.create_task(self._answer(request, came_at), name="move session")
            self._answers.add(task)
            task.add_done_callback(self._answers.discard)
        if beat.forgot:
            self.rollbacks += 1
            log.warning("the store has forgotten something: this server writes its sessions anew")
        return beat.forgot or late

    def answered(self, began: float) -> None:
        """Record an answer of the store: a late one shows that it was away.

        Owners may still write records then that their clients rely on.

        Args:
            began: Time of the request.
        """
        if self._loop.time() - began > SLOW_S:
            self._young_until = max(self._young_until, self._loop.time() + YOUNG_S)

    async def _answer(self, request: MoveRequest, came_at: float) -> None:
        if self.asked is not None:
            answer = await self.asked(replace(request, age_s=self._loop.time() - came_at))
            self.released += answer == RELEASED
            with suppress(StoreError):  # the one who asked comes again
                await self._store.answer(request.number, answer)

    async def leave(self) -> None:
        """End the lease, after all sessions were released."""
        self._left = True
        for task in tuple(self._answers):
            task.cancel()
        with suppress(StoreError):
            await self._store.leave(self._node)
        if self._listener is not None:
            self._listener.close()

    async def peer_of(self, name: str) -> tuple[str, bool]:
        """Return a node's address for other machines, and if its lease is there.

        One without a lease may live all the same, when only its way to the store is cut. The address is empty
        when the node is dead or unknown.

        Args:
            name: The name of the node, or of its worker, whose lease is not looked at.
        """
        try:
            node, why = await self.find(name) if len(name) > WORKER_CHARS else (None, LEASE)
            if why == PORT:
                return "", False
            worker = name[:WORKER_CHARS]
            encoded = node.address if node is not None else await self._store.last_address(worker)
            peer = msgspec.json.decode(encoded or b"{}", type=Address).peer
        except (StoreError, msgspec.MsgspecError):
            return "", False
        return (peer if peer != self.peer else ""), node is not None

    # --- others ----------------------------------------------------------------------------------

    @property
    def is_young(self) -> bool:
        """Whether the store may lack records of living owners."""
        return self._loop.time() < self._young_until

    async def settled(self) -> None:
        """Wait until living owners have had the time to repair the store."""
        while (left := self._young_until - self._loop.time()) > 0:
            await asyncio.sleep(left)

    def owner_of(self, found: StoredSession) -> str | None:
        """Return the node that owns a stored session; None when it is free."""
        name = found.fence.partition(".")[2]
        return None if found.stored.clean or name == self.name else name

    async def is_held(self, session_id: SessionId, name: str) -> bool:
        """Return whether a node without a lease has a session all the same.

        Then only its way to the store is cut, and clients may have seen what the store does not have.
        """
        return self.holds is not None and await self.holds(session_id, name)

    async def find(self, name: str) -> tuple[Node | None, str]:
        """Return a living node, or None with the reason: `LEASE` or `PORT`.

        Raises:
            StoreError: The store cannot be read.
        """
        node = await self._store.node(name)
        if node is None:
            return None, LEASE
        return (None, PORT) if await _refuses(node.address) else (node, "")

    async def ask(self, node: Node, request: MoveRequest, wait_s: float) -> str | None:
        """Ask a node for a session; return its answer, None without one in time.

        Raises:
            StoreError: The store cannot be used.
        """
        await self._store.ask(node.name, request)
        deadline, delay_s = self._loop.time() + wait_s, BEAT_S / 4
        while self._loop.time() < deadline:
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, 2 * BEAT_S)  # many clients may wait for a node that stands still
            if (answer := await self._store.answered(request.number)) is not None:
                return answer
        return None


def _machine() -> str:
    """Return this machine's loopback name, shared by all its processes."""
    if sys.platform != "linux":
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}.{os.stat('/proc/self/ns/net').st_ino}"
    except OSError:
        return ""


async def _hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _refuses(encoded: str) -> bool:
    """Return whether a node's port on this machine is shut: it has died."""
    try:
        address = msgspec.json.decode(encoded, type=Address)
    except (msgspec.MsgspecError, UnicodeError):
        return False  # of another version: its lease decides
    if not address.port or address.machine != _machine():
        return False
    try:
        async with asyncio.timeout(PROBE_S):
            _, writer = await asyncio.open_connection("127.0.0.1", address.port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return False
