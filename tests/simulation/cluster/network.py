"""The network between nodes: byte streams that are late, cut, half open, and reset in the middle of a frame.

Nodes run their real code on it, from the sockets up. What is sent arrives in pieces, in order. A direction
between two machines that is blocked keeps what is sent until it is open again, as TCP does; the sender does
not notice. A connection that is reset loses what is under way from some byte on.
"""

from __future__ import annotations

import os
import random
import socket
import struct
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Any

from .loop import NODE, NodeLoop

if TYPE_CHECKING:
    from .node import SimulatedNode

WINDOW = 65_536
"""Bytes that may be under way, or not yet read, in one direction."""

MANY_PIECES = 3
"""Pieces of which most sends arrive at most."""

Direction = tuple[int, int]
"""Two machines, by number: from one to the other."""


class Cut(OSError):
    """A call on a socket that is closed."""


class PeerNetwork:
    """The network.

    Args:
        loop: The loop.
        chance: Where the fate of all bytes comes from.
        delay_s: Longest delay of a piece.

    Attributes:
        blocked: Directions in which nothing arrives.
        slow_s: Longest time by which pieces are later than usual.
        sockets: Sockets that are not closed.
    """

    def __init__(self, loop: NodeLoop, chance: random.Random, delay_s: float) -> None:
        self.loop = loop
        self.chance = chance
        self.blocked: set[Direction] = set()
        self.slow_s = 0.0
        self.sockets: dict[SimulatedSocket, None] = {}
        self._delay_s = delay_s
        self._numbers = count(100_000)
        self._names: dict[str, SimulatedNode] = {}

    def listen(self, name: str, node: SimulatedNode) -> None:
        """Let connections to a name reach a node."""
        self._names[name] = node

    def node(self, name: str) -> SimulatedNode | None:
        """Return the node that listens at a name; None when it is dead."""
        node = self._names.get(name)
        return None if node is None or node.over else node

    async def connect(self, name: str, *, local: bool) -> Any:
        """Return a socket of the running node that is connected to a name.

        Raises:
            ConnectionRefusedError: Its node is gone, and its machine says so.
        """
        asking = NODE.get()
        target = self._names.get(name)
        connected = self.loop.create_future()
        if target is None or asking is None:
            raise ConnectionRefusedError
        way = (asking.machine, target.machine)  # type: ignore[attr-defined]

        def arrive() -> None:
            if connected.done() or asking.over:  # type: ignore[attr-defined]
                return
            if not local and not (self.is_open(way) and self.is_open(way[::-1]) and not target.vanished):
                return  # the asking node waits
            if target.over or target.refuses_peers:
                connected.set_exception(ConnectionRefusedError())
                return
            family = socket.AF_UNIX if local else socket.AF_INET
            ours = SimulatedSocket(self, next(self._numbers), family, asking)
            theirs = SimulatedSocket(self, next(self._numbers), family, target)
            ours.peer, theirs.peer = theirs, ours
            connected.set_result(ours)
            self.in_node(target, lambda: target.accept(theirs))

        self.loop.arrive(self.due(), arrive)
        return await connected

    def is_open(self, way: Direction) -> bool:
        """Return whether bytes arrive in a direction."""
        return way not in self.blocked

    def due(self, last: float = 0.0) -> float:
        """Return when a piece arrives that is sent now, behind an earlier one."""
        wait_s = self.chance.random() ** 3 * self._delay_s + self.chance.random() * self.slow_s
        return max(last, self.loop.time() + wait_s)

    def in_node(self, node: Any, act: Callable[[], object]) -> None:
        """Do something as a node, when it runs."""
        if not node.over:
            self.loop.call_soon(act, context=node.context())

    # --- faults ------------------------------------------------------------------------------------

    def block(self, ways: set[Direction]) -> None:
        """Let nothing arrive in some directions."""
        self.blocked |= ways

    def unblock(self, ways: set[Direction]) -> None:
        """Let everything arrive that was kept."""
        self.blocked -= ways
        for each in tuple(self.sockets):
            each.send_kept()

    def reset(self, share: float) -> None:
        """Reset a share of the connections, each behind some byte."""
        for each in tuple(self.sockets):
            if each in self.sockets and self.chance.random() < share:
                each.reset()

    def lose_node(self, node: SimulatedNode, silent: bool) -> None:
        """Lose the connections of a node that has died; peers learn of it unless it is silent."""
        for each in [each for each in self.sockets if each.node is node]:
            del self.sockets[each]
            each.dead = True
            if not silent:
                each.tell_peer()


class SimulatedSocket:
    """A socket of a node, connected to one of another node.

    Attributes:
        family: Its address family.
        node: The node.
        peer: The other end.
        dead: Whether its node is dead, so that nothing has an effect.
    """

    peer: SimulatedSocket

    def __init__(self, network: PeerNetwork, number: int, family: int, node: Any) -> None:
        self.family = family
        self.node = node
        self.dead = False
        self._network = network
        self._number = number
        self._came = bytearray()
        self._kept: list[bytes | None] = []  # sent in a blocked direction; None is the end
        self._flight = 0  # bytes on their way to the peer
        self._pieces: list[bytes | None] = []
        self._last = 0.0
        self._over = self._closed = self._was_reset = False
        self._error: OSError | None = None
        self._reader: Callable[[], object] | None = None
        self._writer: Callable[[], object] | None = None
        network.sockets[self] = None
        network.loop.connect_node(self)

    # --- the node's side: what code asks of a socket -------------------------------------------------

    def setblocking(self, blocking: bool) -> None:
        """Do nothing: it never blocks."""

    def setsockopt(self, *option: Any) -> None:
        """Do nothing."""

    def getsockopt(self, *option: Any) -> bytes:
        """Return the user of the other end."""
        return struct.pack("3i", 0, os.getuid(), 0)

    def fileno(self) -> int:
        """Return its number; -1 when it is closed."""
        return -1 if self._closed else self._number

    def send(self, data: Any) -> int:
        """Send bytes; return how many fit."""
        self._check()
        room = WINDOW - self._flight - len(self.peer._came)
        if room <= 0:
            raise BlockingIOError
        whole = bytes(data[:room])
        self._flight += len(whole)
        ends = sorted(
            self._network.chance.randint(1, len(whole))
            for _ in range(self._network.chance.randrange(MANY_PIECES))
        )
        for start, end in zip([0, *ends], [*ends, len(whole)], strict=True):
            if start < end:
                self._put(whole[start:end])
        return len(whole)

    def sendmsg(self, parts: Any, ancillary: Any = ()) -> int:
        """Send bytes; sockets are not handed over in the simulation."""
        return self.send(parts[0])

    def recv(self, size: int) -> bytes:
        """Return what has come, empty at the end."""
        if self._came:
            part = bytes(self._came[:size])
            del self._came[:size]
            self.peer._wake_writer()
            return part
        self._check()
        if self._over:
            return b""
        raise BlockingIOError

    def recvmsg(self, size: int, *more: Any) -> tuple[bytes, list[Any], int, None]:
        """Return what has come, without descriptors."""
        return self.recv(size), [], 0, None

    def close(self) -> None:
        """Close it; the other end learns of it behind everything that was sent."""
        if not self._closed:
            self._closed = True
            self._reader = self._writer = None
            if not self.dead:
                self._network.sockets.pop(self, None)
                self._put(None)

    def abort(self) -> None:
        """Close it at once; the other end loses what is under way."""
        if not self._closed and not self.dead:
            self._pieces.clear()
            self._kept.clear()
            self.close()

    def _check(self) -> None:
        if self._closed:
            raise Cut
        if self._error is not None:
            raise self._error

    @property
    def readable(self) -> bool:
        """Whether `recv` returns or raises."""
        return bool(self._came) or self._over or self._error is not None

    @property
    def sendable(self) -> bool:
        """Whether `send` sends or raises."""
        return self._error is not None or self._flight + len(self.peer._came) < WINDOW

    def watch(self, *, reader: Callable[[], object] | None = None, writer: Any = None) -> None:
        """Call something whenever it can be read or written, until it is not watched any more."""
        if reader is not None:
            self._reader = reader
            self._wake_reader()
        if writer is not None:
            self._writer = writer
            self._wake_writer()

    def unwatch(self, *, reading: bool) -> bool:
        """Call nothing any more; return whether something was called."""
        if reading:
            watched, self._reader = self._reader is not None, None
        else:
            watched, self._writer = self._writer is not None, None
        return watched

    # --- the network's side --------------------------------------------------------------------------

    def _put(self, piece: bytes | None) -> None:
        if self.dead or self._was_reset:
            return
        if not self._network.is_open((self.node.machine, self.peer.node.machine)) or self._kept:
            self._kept.append(piece)
            return
        self._pieces.append(piece)
        self._last = self._network.due(self._last)
        self._network.loop.arrive(self._last, self._deliver)

    def send_kept(self) -> None:
        """Send what was kept, where the direction is open again."""
        kept, self._kept = self._kept, []
        for piece in kept:
            self._put(piece)

    def _deliver(self) -> None:
        if not self._pieces:
            return  # they were lost
        piece, peer = self._pieces.pop(0), self.peer
        if piece is None:
            peer._over = True
        else:
            self._flight -= len(piece)
            if not peer._closed:
                peer._came += piece
            elif self._error is None:  # nobody reads: the other end resets the connection
                self._error = ConnectionResetError()
                self._wake_reader()
        peer._wake_reader()
        self._wake_writer()

    def reset(self) -> None:
        """Reset the connection: each end has what came until some byte, and then an error."""
        for each in (self, self.peer):
            kept = self._network.chance.randint(0, len(each._pieces))
            if each._pieces[kept:] and (cut := each._pieces[kept]):
                each._pieces[kept] = cut[: self._network.chance.randrange(len(cut))]
                kept += 1
            del each._pieces[kept:]
            each._kept.clear()
            each._was_reset = True  # nothing arrives behind the hole
            self._network.sockets.pop(each, None)
        self._network.loop.arrive(self.peer._last, self._fail)
        self._network.loop.arrive(self._last, self.peer._fail)

    def tell_peer(self) -> None:
        """Reset the other end, as the system does for a process that has died."""
        self._network.loop.arrive(self._network.due(self._last), self.peer._fail)

    def _fail(self) -> None:
        if self._error is None:
            self._error = ConnectionResetError()
            self._wake_reader()
            self._wake_writer()

    def _wake_reader(self) -> None:
        if self._reader is not None and self.readable:
            self._network.in_node(self.node, self._read_on)

    def _read_on(self) -> None:
        if self._reader is not None and self.readable:
            self._reader()
            self._wake_reader()

    def _wake_writer(self) -> None:
        if self._writer is not None and self.sendable:
            self._network.in_node(self.node, self._write_on)

    def _write_on(self) -> None:
        if self._writer is not None and self.sendable:
            self._writer()
            self._wake_writer()
