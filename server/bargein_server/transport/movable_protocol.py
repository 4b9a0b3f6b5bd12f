"""WebSocket protocol whose connection another process can take over.

The kernel gives both processes the socket. This one stops reading, the other one makes a protocol that needs
no handshake, and takes the bytes that this one has read and not parsed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio.transports import BaseTransport
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.protocol import State
from websockets.server import ServerProtocol

from .peer_limits import Keepalive
from .websocket_protocol import BargeinProtocol


class Released(Struct, frozen=True):
    """A socket that may go to another process.

    Args:
        descriptor: Its descriptor, which stays open here until `MovableProtocol.drop`.
        unread: Bytes that were read from it and not parsed.
    """

    descriptor: int
    unread: bytes


class MovableProtocol(BargeinProtocol):
    """WebSocket connection that can be handed over.

    Attributes:
        attach_adopted: Attaches the connection of a socket that another process had.
    """

    __slots__ = ("attach_adopted",)

    attach_adopted: Callable[[MovableProtocol], None] | None

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self.attach_adopted = None

    # --- the process that has the socket -----------------------------------------------------------

    def release(self) -> Released | None:
        """Stop reading and return the socket; None if it cannot be given now.

        It cannot in the middle of a frame or a message, with bytes that wait to be sent, and with TLS, whose
        state is in this process.
        """
        transport = self.transport
        accepted = transport.get_extra_info("socket")
        if (
            accepted is None
            or self._closing
            or not self._open
            or self.connection is None
            or transport.get_extra_info("sslcontext") is not None
            or transport.get_write_buffer_size()
            or self._counter.incomplete
            or not _between_frames(self._conn)
        ):
            return None
        if self.reading:
            self.reading = False
            transport.pause_reading()
        self._stop_keepalive()
        unread = bytes(self._unread.data or b"")
        self._unread.drop(self)
        return Released(accepted.fileno(), unread)

    def keep(self, released: Released) -> None:
        """Read on: the other process does not want the socket."""
        if released.unread:
            self._unread.add(released.unread)
        self.read_on()

    def drop(self) -> None:
        """Forget the socket, which the other process has, without a close."""
        self._closing = True
        self.transport.abort()  # closes the descriptor and sends nothing: another process has it open

    # --- the process that takes it -----------------------------------------------------------------

    def adopt(self, attach: Callable[[MovableProtocol], None]) -> None:
        """Continue a connection after its handshake, when the transport is there."""
        self._conn = ServerProtocol(
            state=State.OPEN,
            max_size=self._config.ws_max_size,
            logger=logging.getLogger("uvicorn.error"),
        )
        self._state = None
        self.attach_adopted = attach

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the transport over; attach an adopted socket's connection."""
        attach, self.attach_adopted = self.attach_adopted, None
        if attach is None:
            super().connection_made(transport)
            return
        peer = transport.get_extra_info("peername")
        self.sockets.enter(transport, str(peer[0]) if isinstance(peer, tuple) and peer else None)
        super().connection_made(transport)
        self._open = True
        if interval_s := self._config.ws_ping_interval:
            self._keepalive = Keepalive(self, interval_s, self._config.ws_ping_timeout)
        attach(self)


async def adopt(
    protocol: MovableProtocol, descriptor: int, attach: Callable[[MovableProtocol], None]
) -> None:
    """Continue the connection of a socket that another process gave away.

    Args:
        protocol: A new protocol.
        descriptor: The socket's descriptor, which is closed if this fails.
        attach: Attaches the connection, before anything is read.

    Raises:
        OSError: The client is gone.
    """
    loop = asyncio.get_running_loop()
    accepted = socket.socket(fileno=descriptor)
    try:
        accepted.setblocking(False)
        protocol.adopt(attach)
        await loop.connect_accepted_socket(lambda: protocol, accepted)
    except BaseException:
        accepted.close()
        raise


def _between_frames(conn: ServerProtocol) -> bool:
    """Return whether the parser waits for the first byte of a frame.

    Its position is that of its innermost generator. A release of `websockets` in which this differs hands no
    socket over, and a pipe takes its place.
    """
    inner: Any = conn.parser
    while (below := getattr(inner, "gi_yieldfrom", None)) is not None:
        inner = below
    return getattr(getattr(inner, "gi_code", None), "co_name", "") == "at_eof"
