"""The wire under uvicorn: straight to and from the transport, without ASGI in between.

A subclass of uvicorn's WebSocket protocol, given as `uvicorn.Config(ws=BargeinProtocol)`. It puts
itself into the scope of the connection. The endpoint does the handshake as usual, attaches its
connection here and returns; from then on a message is handed over inside `data_received`, so that an
interrupt is fenced and answered in the callback that read it, and several frames leave in one write.
Pings, the closing handshake and everything before `attach` stay with uvicorn.

An attached connection holds nothing of its handshake: the frames of the application's coroutines, the
scope and the headers would be more than half of what an idle session takes.

It rests on these names of uvicorn's class, which are not public: `send_receive_event_to_app`,
`frames`, `curr_msg_data_type`, `queue`, `conn`, `close_sent`, `close_timer`, `close_timeout`,
`transport`, `app`, `run_asgi`, `scope`, `request`, `response`, `keepalive_timeout`, `handle_cont`,
`handle_ping`, `handle_parser_exception`, `handshake_initiated`, `read_paused`, `disconnected`, `loop`,
`logger`. pyproject.toml bounds the versions and a test says which one is missing.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.transports import BaseTransport
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from bargein_protocol import Code
from bargein_protocol.errors import INVALID_DATA, TOO_BIG

from ..hosting.flush_scheduler import FlushScheduler
from ..settings import Settings
from .connection import Connection
from .frames import BINARY, HEADERS, PREPARED, TEXT, Boundaries, header, only_message
from .in_flight import InFlight

EXTENSION = "bargein.protocol"

# Bytes in the transport's buffer above which no more output is written. Small, because an interrupt
# can purge what is still ours and not what the transport has.
HIGH_WATER = 4096


class _ServerProtocol(ServerProtocol):
    """The protocol of `websockets`, with one rule of RFC 6455 that it reads more strictly."""

    def recv_frame(self, frame: Frame) -> None:
        """Take a frame. A peer may close in the middle of a message (section 5.4: control frames)."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


class _Unread(asyncio.Queue[Any]):
    """Where uvicorn puts the end of a connection that no application waits for."""

    def put_nowait(self, item: object) -> None:
        """Drop it."""


_UNREAD = _Unread()


class BargeinProtocol(WebSocketsSansIOProtocol):
    """See the module.

    Attributes:
        max_pieces: Fragments that a message may have.
        max_pong_bytes: Pongs that may wait for a peer that does not read them.
    """

    max_pieces = Settings().max_frame_fragments
    max_pong_bytes = Settings().max_pong_bytes
    connection: Connection | None = None
    wire: TransportWire | None = None
    in_flight: InFlight | None = None
    paused = False

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self.app = cast(Any, partial(_serve, cast(ASGIApp, self.app)))
        self.conn = _ServerProtocol(
            extensions=self.conn.available_extensions, max_size=config.ws_max_size, logger=self.logger
        )
        self._max_size = config.ws_max_size
        self._boundaries = Boundaries()
        self._at_message = True  # whether the next byte will begin one

    def connection_made(self, transport: BaseTransport) -> None:
        """Called by the loop."""
        super().connection_made(transport)
        cast(asyncio.Transport, transport).set_write_buffer_limits(high=HIGH_WATER)
        accepted = transport.get_extra_info("socket")
        if accepted is not None and accepted.family != socket.AF_UNIX:
            # asyncio does it for sockets that say they are TCP; those of uvicorn's workers do not.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self.connection is not None and self._at_message and not self.close_sent:
            # What `websockets` would find is the same; it takes ten times as long for it.
            message = only_message(data, self._max_size)
            if message is not None:
                self._deliver(*message)
                return
        at_frame = not self.handshake_initiated or self._boundaries.follow(data)
        super().data_received(data)
        self._at_message = at_frame and self.conn.current_size is None
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            # uvicorn does not look at a handshake that failed, and its peer would wait for ever.
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

    def handle_cont(self, event: Frame) -> None:
        """Take a fragment; the bytes of a message are bounded, its empty fragments are not."""
        if len(self.frames) >= self.max_pieces:
            self._fail(TOO_BIG)
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answer, unless the peer does not read its answers."""
        super().handle_ping()
        if self.paused and self.transport.get_write_buffer_size() > self.max_pong_bytes:
            self.transport.abort()

    def _fail(self, code: Code) -> None:
        self.conn.fail(code.number, code.reason)
        self.handle_parser_exception()

    def run_asgi(self) -> Coroutine[Any, Any, None]:
        """Run the application with this protocol in its scope."""
        extensions = cast(dict[str, Any], self.scope["extensions"])
        extensions[EXTENSION] = self
        return super().run_asgi()

    def attach(self, connection: Connection) -> None:
        """Hand messages to this connection from now on, those that were read already first.

        The application returns after that. The connection goes on until it is lost.
        """
        self.connection = connection
        while not self.queue.empty():
            message = cast(dict[str, Any], self.queue.get_nowait())
            if message["type"] == "websocket.receive":
                text = message.get("text")
                connection.receive(message["bytes"] if text is None else text.encode(), text is not None)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.disconnected:
            connection.disconnected()

    def forget_handshake(self) -> asyncio.Future[None] | None:
        """Let go of what only the handshake needed.

        Returns:
            What is done when the attached connection is lost; None when none is attached.
        """
        if self.connection is None:
            return None
        self.request.headers.clear()  # the frame of the parser holds the rest of the request
        del self.request, self.response, self.scope
        self.queue = _UNREAD
        return self.connection.lost

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message over in the step in which it was read."""
        if self.connection is None:
            super().send_receive_event_to_app()
            return
        frame = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if not self.close_sent:
            self._deliver(frame, self.curr_msg_data_type == "text")

    def _deliver(self, message: bytes, text: bool) -> None:
        assert self.connection is not None
        if not text or message.isascii() or _is_utf8(message):
            self.connection.receive(message, text)
        else:
            self._fail(INVALID_DATA)

    def pause_writing(self) -> None:
        """Called by the transport."""
        self.paused = True
        super().pause_writing()
        self.take_output()

    def resume_writing(self) -> None:
        """Called by the transport."""
        self.paused = False
        super().resume_writing()
        self.go_on()

    def cap_in_flight(self, cap: int) -> None:
        """Hold output back while so many bytes are not acknowledged."""
        self.in_flight = InFlight(self.transport, cap, self.go_on)
        self.take_output()

    def take_output(self) -> bool:
        """Tell the wire whether output may be written."""
        takes = not self.paused and (self.in_flight is None or not self.in_flight.full)
        if self.wire is not None:
            self.wire.writable = takes
        return takes

    def go_on(self) -> None:
        """Let the connection write what waits, if it may."""
        if self.take_output() and self.connection is not None:
            self.connection.writable_again()

    def keepalive_timeout(self) -> None:
        """Abort: the orderly close would wait for a buffer that a dead client never drains."""
        super().keepalive_timeout()
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        super().connection_lost(exc)
        if self.in_flight is not None:
            self.in_flight.stop()
        # They lead back here. Of such cycles the garbage collector would have to get rid.
        connection, self.connection, self.wire, self.in_flight = self.connection, None, None, None
        if connection is not None:
            connection.disconnected()


async def _serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run the application, then wait for the connection without holding what the application was given."""
    await app(scope, receive, send)
    lost = scope["extensions"][EXTENSION].forget_handshake()
    del scope, receive, send
    if lost is not None:
        await lost


def _is_utf8(frame: bytes) -> bool:
    try:
        frame.decode()
    except UnicodeDecodeError:
        return False
    return True


class TransportWire:
    """A `Wire` on the transport of a `BargeinProtocol`.

    Args:
        protocol: The connection's protocol, after its handshake, without compression.
        text: Whether frames are text frames.
        outbox: That of the event loop.

    Attributes:
        late: See `Wire`.
        writable: Whether the transport's buffer is below its mark, and what is in flight below its cap.
            The protocol keeps it current: it is looked at for every token.
    """

    __slots__ = (
        "_capped", "_closed", "_headers", "_late", "_opcode", "_outbox", "_protocol",
        "_transport", "late", "writable",
    )  # fmt: skip

    def __init__(self, protocol: BargeinProtocol, text: bool, outbox: FlushScheduler) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._opcode = TEXT if text else BINARY
        self._headers = HEADERS[self._opcode]
        self._outbox = outbox
        self._late = b""  # what `write_soon` has put off
        self.late = 0
        self._closed = False
        self._capped = protocol.in_flight is not None
        self.writable = True
        protocol.wire = self
        protocol.take_output()

    def write(self, frames: Sequence[bytes]) -> None:
        """Write frames, unmasked as RFC 6455 section 5.1 asks of a server, in one write."""
        if self._closed or self._transport.is_closing():
            return
        parts, self._late, self.late = [self._late], b"", 0
        for frame in frames:
            size = len(frame)
            parts.append(self._headers[size] if size < PREPARED else header(self._opcode, size))
            parts.append(frame)
        self._transport.write(b"".join(parts))
        if self._capped:
            self._protocol.take_output()

    def write_soon(self, frame: bytes, now: float) -> None:
        """Write a frame now, or in one of the loop's next iterations when others were written in this one."""
        if self._closed:
            return
        size = len(frame)
        data = (self._headers[size] if size < PREPARED else header(self._opcode, size)) + frame
        if self._late:
            self._late += data
            self.late += 1
        elif self._capped or not self._outbox.puts_off(self, now):
            if not self._transport.is_closing():
                self._transport.write(data)
                if self._capped:
                    self._protocol.take_output()
        else:
            self._late, self.late = data, 1

    def write_late(self) -> bool:
        """Write what was put off (`FlushScheduler`)."""
        late, self._late, self.late = self._late, b"", 0
        if late and not self._transport.is_closing():
            self._transport.write(late)
        return bool(late)

    def take_back(self) -> int:
        """Drop what was put off."""
        late, self._late, self.late = self.late, b"", 0
        return late

    def close(self, code: Code) -> None:
        """Send a close frame and wait for the peer's, as uvicorn does for `websocket.close`."""
        self.write_late()
        protocol, self._closed = self._protocol, True
        if protocol.close_sent or self._transport.is_closing():
            return
        protocol.conn.send_close(code.number, code.reason)
        self._transport.write(b"".join(protocol.conn.data_to_send()))
        protocol.close_sent = True
        protocol.close_timer = protocol.loop.call_later(protocol.close_timeout, self._transport.close)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()
