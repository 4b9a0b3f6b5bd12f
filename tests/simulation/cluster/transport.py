"""Transport over a simulated socket, as an event loop has one over a real socket."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .network import SimulatedSocket

READ_BYTES = 4096
"""Bytes that are read at most in one call."""


class PeerTransport(asyncio.Transport):
    """A transport.

    Args:
        loop: The loop.
        sock: The socket, which is the transport's from now on.
        protocol: Takes what comes.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: SimulatedSocket, protocol: asyncio.Protocol
    ) -> None:
        super().__init__({"socket": sock})
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._unsent = bytearray()
        self._high = 65_536
        self._paused = self._closing = self._lost = False

    def begin(self, begun: asyncio.Future[None]) -> None:
        """Tell the protocol, then read."""
        self._protocol.connection_made(self)
        self._sock.watch(reader=self._read)
        if not begun.done():
            begun.set_result(None)

    def _read(self) -> None:
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._protocol.eof_received()
            self.close()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the mark above which the protocol is to pause."""
        self._high = high if high is not None else self._high

    def is_closing(self) -> bool:
        """Whether it is closed, or closes."""
        return self._closing

    def write(self, data: Any) -> None:
        """Send bytes, now or later."""
        if self._lost:
            return
        if not self._unsent:
            data = self._sent(data)
            if not data or self._lost:
                return
            self._sock.watch(writer=self._write_on)
        self._unsent += data
        if len(self._unsent) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def _sent(self, data: Any) -> Any:
        """Send some bytes; return the rest."""
        try:
            return data[self._sock.send(data) :]
        except BlockingIOError:
            return data
        except OSError as error:
            self._lose(error)
            return b""

    def _write_on(self) -> None:
        if self._unsent:
            self._unsent = bytearray(self._sent(bytes(self._unsent)))
        if not self._unsent and not self._lost:
            self._sock.unwatch(reading=False)
            if self._closing:
                self._lose(None)
        if self._paused and len(self._unsent) <= self._high // 4:
            self._paused = False
            self._protocol.resume_writing()

    def close(self) -> None:
        """Close it behind everything that was written."""
        if not self._closing:
            self._closing = True
            self._sock.unwatch(reading=True)
            if not self._unsent:
                self._lose(None)

    def abort(self) -> None:
        """Close it at once."""
        self._sock.abort()
        self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._unsent.clear()
            self._loop.call_soon(self._lost_now, error)

    def _lost_now(self, error: OSError | None) -> None:
        self._protocol.connection_lost(error)
        self._sock.close()
