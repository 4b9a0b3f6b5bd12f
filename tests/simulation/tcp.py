"""TCP on the loopback, in memory: HTTP clients and servers run on the simulated loop as they are.

What is written arrives in pieces some time later, in order. Work for threads is done in the loop, at some
later time, in one piece.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

from .loop import SimulatedLoop

DELAY_S = 0.001
"""The longest delay of a piece, and of what a thread does, in virtual seconds."""

PIECE_BYTES = 200
"""Longer writes arrive in pieces, as answers of models do."""

Factory = Callable[[], asyncio.Protocol]


class TcpLoop(SimulatedLoop):
    """A simulated loop with TCP and threads.

    Attributes:
        transports: The ends of connections that were not closed.
    """

    def __init__(self, chance: random.Random) -> None:
        super().__init__(chance)
        self.transports: list[LoopbackTransport] = []
        self._draw = chance.random
        self._listening: dict[int, Factory] = {}
        self._ports = count(1000)

    def later(self) -> float:
        """Return when a piece arrives that is sent now."""
        return self.time() + self._draw() * DELAY_S

    async def create_server(self, factory: Factory, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """Listen on a port."""
        port = next(self._ports)
        self._listening[port] = factory
        return _Listener(self, port)

    async def create_connection(self, factory: Factory, host: Any, port: Any, **options: Any) -> Any:  # type: ignore[override]
        """Connect to a port."""
        await asyncio.sleep(self._draw() * DELAY_S)
        accept = self._listening.get(port)
        if accept is None:
            raise ConnectionRefusedError(f"nothing listens on {port}")
        ours, theirs = LoopbackTransport(self, factory()), LoopbackTransport(self, accept())
        ours.peer, theirs.peer = theirs, ours
        theirs.protocol.connection_made(theirs)
        ours.protocol.connection_made(ours)
        return ours, ours.protocol

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Do what a thread would do."""
        done = self.create_future()

        def act() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:
                done.set_exception(error)

        self.arrive(self.later(), act)
        return done

    def stop_listening(self, port: int) -> None:
        """Refuse connections from now on."""
        self._listening.pop(port, None)


class _Listener:
    """What `create_server` returns, as far as anybody asks for it."""

    def __init__(self, loop: TcpLoop, port: int) -> None:
        self._loop = loop
        self._port = port

    @property
    def sockets(self) -> list[_Listener]:
        return [self]

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", self._port

    def close(self) -> None:
        self._loop.stop_listening(self._port)


class _Socket:
    """What libraries ask a transport's socket. Without a number, no pool believes that it is still idle."""

    family = socket.AF_INET

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    getpeername = getsockname

    def fileno(self) -> int:
        return -1


class LoopbackTransport(asyncio.Transport):
    """One end of a connection.

    Attributes:
        peer: The other end.
        protocol: Who is told what comes.
    """

    peer: LoopbackTransport

    def __init__(self, loop: TcpLoop, protocol: asyncio.Protocol) -> None:
        super().__init__({"socket": _Socket()})
        self.protocol = protocol
        self._loop = loop
        self._came: deque[bytes | None] = deque()
        self._flight: deque[bytes | None] = deque()
        self._last = 0.0
        self._paused = False
        self._closing = False
        loop.transports.append(self)

    def write(self, data: Any) -> None:
        """Send bytes."""
        if not self._closing:
            whole = bytes(data)
            for start in range(0, len(whole), PIECE_BYTES):
                self._send(whole[start : start + PIECE_BYTES])

    def _send(self, piece: bytes | None) -> None:
        self._last = max(self._last, self._loop.later())
        self._flight.append(piece)
        self._loop.arrive(self._last, self._deliver)

    def _deliver(self) -> None:
        self.peer._came.append(self._flight.popleft())
        self.peer._read()

    def _read(self) -> None:
        while self._came and not self._closing:
            if self._paused and self._came[0] is not None:
                return
            piece = self._came.popleft()
            if piece is not None:
                self.protocol.data_received(piece)
            elif not self.protocol.eof_received():
                self.close()

    def pause_reading(self) -> None:
        """Let what comes wait."""
        self._paused = True

    def resume_reading(self) -> None:
        """Take what waits, in a later step."""
        self._paused = False
        self._loop.call_soon(self._read)

    def is_closing(self) -> bool:
        """Whether this end was closed."""
        return self._closing

    def close(self) -> None:
        """Close this end; the other one learns of it behind what was written."""
        if not self._closing:
            self._closing = True
            self._send(None)
            self._loop.transports.remove(self)
            self._loop.call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        """Close this end."""
        self.close()

    def write_eof(self) -> None:
        """Say that nothing more is written."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Everything is written at once."""
