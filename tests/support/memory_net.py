"""Network in memory: real protocols on cables that are cut at any byte.

The loop connects clients to one server, the protocol factory of which it was given. What is written
arrives in the next iteration, in one piece and in order; time is virtual and no socket exists. A cable
may be cut when so many bytes have passed in one direction:

    fin         both ends see the end of the stream after what was on its way
    rst         both ends lose the connection; what was on its way the other way is lost
    silence     nothing passes any more, and nobody is told
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

from virtual_time import JumpingSelector, VirtualTimeLoop

Direction = Literal["up", "down"]
How = Literal["fin", "rst", "silence"]


class Cut(NamedTuple):
    """Where a cable is cut: after `after` bytes in a direction."""

    direction: Direction
    after: int
    how: How


class Cable:
    """One connection.

    Attributes:
        carried: Bytes that passed, by direction.
        client: The end of who connected.
        server: The other end.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, cut: Cut | None) -> None:
        self.carried: dict[Direction, int] = {"up": 0, "down": 0}
        self.client = End(self, "up", loop)
        self.server = End(self, "down", loop)
        self._cut = cut
        self._dead = False

    def plug(self, client: asyncio.Protocol, server: asyncio.Protocol) -> None:
        """Connect two protocols."""
        for end, protocol in ((self.server, server), (self.client, client)):
            end.set_protocol(protocol)
            protocol.connection_made(end)
        if self._cut is not None and self._cut.after == 0:
            self._break(self._cut.how)

    def carry(self, sender: End, data: bytes) -> None:
        """Pass bytes on, as many as the cut allows."""
        if self._dead:
            return
        cut = self._cut
        if cut is not None and cut.direction == sender.direction:
            data = data[: cut.after - self.carried[sender.direction]]
        self.carried[sender.direction] += len(data)
        if data:
            self.other(sender).arrive(data)
        if cut is not None and self.carried[cut.direction] == cut.after:
            self._break(cut.how)

    def hang_up(self, sender: End, error: Exception | None) -> None:
        """Notify the other end that this one is closed or aborted."""
        if not self._dead:
            self._dead = True
            self.other(sender).lose(error)

    def other(self, end: End) -> End:
        """Return the opposite end."""
        return self.server if end is self.client else self.client

    def _break(self, how: How) -> None:
        self._dead = True
        if how == "fin":
            self.client.lose(None)
            self.server.lose(None)
        elif how == "rst":
            assert self._cut is not None
            receiver = self.server if self._cut.direction == "up" else self.client
            self.other(receiver).deaf = True
            self.client.lose(ConnectionResetError())
            self.server.lose(ConnectionResetError())


class End(asyncio.Transport):
    """One end of a cable, the transport of the protocol there."""

    def __init__(self, cable: Cable, direction: Direction, loop: asyncio.AbstractEventLoop) -> None:
        address = ("127.0.0.1", 50000)
        super().__init__({"peername": address, "sockname": address})
        self.direction = direction
        self.deaf = False
        self._cable = cable
        self._loop = loop
        self._protocol: Any = None
        self._closing = False
        self._lost = False
        self._paused = False
        self._waiting: list[Callable[[], None]] = []

    # --- from the cable --------------------------------------------------------------------------

    def arrive(self, data: bytes) -> None:
        """Take bytes from the other end, in the next iteration of the loop."""
        self._soon(partial(self._take, data))

    def lose(self, error: Exception | None) -> None:
        """Lose the connection after arrived data; None is an end of stream."""
        self._soon(self._end_of_stream if error is None else partial(self._connection_lost, error))

    def _take(self, data: bytes) -> None:
        if not self.deaf:
            self._protocol.data_received(data)

    def _end_of_stream(self) -> None:
        self._protocol.eof_received()
        self.close()

    def _soon(self, act: Callable[[], None]) -> None:
        self._waiting.append(act)
        if not self._paused:
            self._loop.call_soon(self._next)

    def _next(self) -> None:
        if self._waiting and not (self._paused or self._lost):
            self._waiting.pop(0)()

    def _connection_lost(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._protocol.connection_lost(error)

    # --- asyncio.Transport -----------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._cable.carry(self, bytes(data))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._cable.hang_up(self, None)
            self._loop.call_soon(self._connection_lost, None)

    def abort(self) -> None:
        if not self._lost:
            self._closing = self.deaf = True
            self._cable.hang_up(self, ConnectionResetError())
            self._loop.call_soon(self._connection_lost, None)

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        for _ in self._waiting:
            self._loop.call_soon(self._next)

    def is_reading(self) -> bool:
        return not self._paused

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class _NoSockets(JumpingSelector):
    """There is nothing to wait for but time."""

    real_wait_s = 0.0


class MemoryLoop(VirtualTimeLoop):
    """A loop whose only network is in memory.

    Attributes:
        accept: Makes the protocol of the server's end.
        cuts: Where the next cables are cut, in order; those after them are whole.
        cables: Every cable since the last `unplug`.
    """

    def __init__(self) -> None:
        super().__init__(_NoSockets())
        self.accept: Callable[[], asyncio.Protocol] | None = None
        self.cuts: list[Cut] = []
        self.cables: list[Cable] = []

    async def create_connection(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """Connect a client's protocol to the server."""
        assert self.accept is not None
        cable = Cable(self, self.cuts.pop(0) if self.cuts else None)
        self.cables.append(cable)
        protocol = protocol_factory()
        cable.plug(protocol, self.accept())
        return cable.client, protocol

    def unplug(self) -> None:
        """Drop every connection."""
        for cable in self.cables:
            cable.client.abort()
            cable.server.abort()
        self.cables = []
