"""WebSocket protocol of the server, for `uvicorn.Config(ws=…)`.

It joins the transport of the event loop, `websockets.server.ServerProtocol`, which does RFC 6455 without
I/O, and an ASGI application (`AsgiSession`). An application of bargein finds this object in its scope,
completes the handshake, attaches its connection and returns. From then on a message is handed over inside
`data_received`, so that an interrupt is fenced and answered in the callback that read it, and several
frames leave in one write. An attached connection keeps no object of its handshake, because those take
more than half of the memory of an idle session.

uvicorn uses the constructor, an entry in `server_state.connections` while the connection lives, its tasks
in `server_state.tasks`, and `shutdown()`. tests/transport/test_public_names.py lists these names.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio.transports import BaseTransport
from time import perf_counter
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from bargein_protocol.errors import FLOODED, INVALID_DATA

from ..hosting.ports import HIGH_WATER, Gate, Receiver
from ..settings import Settings
from .asgi_session import AsgiSession
from .handshake import close_frame, compression, denial, replace_odd_bytes, short_reason, websocket_scope
from .peer_limits import FrameCounter, InFlight, Keepalive
from .sockets import READ_BYTES, REQUEST_S, SLICE_S, Sockets, Unread

EXTENSION = "bargein.protocol"  # key of this object in `scope["extensions"]`

CLOSE_S = 10.0
"""Seconds for the peer's close frame, and for the transport to empty its buffer; then it is aborted."""

_TEXT, _BINARY, _CONT, _PING, _PONG = Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG


class BargeinProtocol(asyncio.Protocol):
    """One WebSocket connection.

    Attributes:
        max_pieces: Fragments per message.
        max_pong_bytes: Bytes of pongs that may wait for a peer that does not read them.
        max_frames_per_s: Frames per second.
        sockets: The open sockets of the server, of which this is one until it is lost.
        transport: The transport.
        connection: The attached connection; None while an ASGI application has the socket.
        wire: The wire of the attached connection.
        in_flight: Its cap on bytes in flight, if it has one.
        compressed: Whether a compression was negotiated; such a connection cannot be attached.
        reading: Whether the transport is read.
    """

    max_pieces: int = Settings().max_frame_fragments
    max_pong_bytes: int = Settings().max_pong_bytes
    max_frames_per_s: int = Settings().max_frames_per_s
    sockets: Sockets = Sockets(0, 0, ())

    __slots__ = (
        "_close_timer", "_closing", "_config", "_conn", "_counter", "_keepalive", "_loop", "_open", "_paused",
        "_server", "_session", "_state", "_unread",
        "compressed", "connection", "in_flight", "reading", "transport", "wire",
    )  # fmt: skip

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        if not config.loaded:
            config.load()
        self._config = config
        self._server = server_state
        self._state: dict[str, Any] | None = app_state
        self._loop = asyncio.get_running_loop()
        self._conn = ServerProtocol(
            extensions=[compression()] if config.ws_per_message_deflate else None,
            max_size=config.ws_max_size,
            logger=logging.getLogger("uvicorn.error"),
        )
        self._counter = FrameCounter(self.max_pieces, self.max_pong_bytes, self.max_frames_per_s)
        self._keepalive: Keepalive | None = None
        self._session: AsgiSession | None = None
        self._open = False  # the handshake is done
        self._closing = False  # a close frame was sent, or the transport was closed: messages are dropped
        self._close_timer: asyncio.TimerHandle | None = None
        self._paused = False  # the transport's buffer is above its mark
        self._unread: Unread
        self.transport: asyncio.Transport
        self.connection: Receiver | None = None
        self.wire: Gate | None = None
        self.in_flight: InFlight | None = None
        self.compressed: bool = False
        self.reading: bool = True

    # --- the event loop's side: the connection ---------------------------------------------------

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the transport over (asyncio)."""
        self.transport = cast(asyncio.Transport, transport)
        self._server.connections.add(cast(Any, self))
        self._unread = Unread(self.sockets.share(transport))
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        accepted = transport.get_extra_info("socket")
        if accepted is not None and accepted.family != socket.AF_UNIX:
            # asyncio sets it only on sockets that name TCP as protocol; those of uvicorn's workers do not.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def eof_received(self) -> None:
        """Close, because a peer without a close frame is gone (asyncio)."""
        self._hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release all references (asyncio)."""
        self._server.connections.discard(cast(Any, self))
        self.sockets.leave(self.transport)
        self._closing = True
        self._unread.drop(self)
        if self._close_timer is not None:
            self._close_timer.cancel()
        self._stop_keepalive()
        if self.in_flight is not None:
            self.in_flight.stop()
        # References in cycles would wait for the garbage collector.
        self._close_timer = self.wire = self.in_flight = None
        session, self._session = self._session, None
        if session is not None:
            session.disconnect(CloseCode.ABNORMAL_CLOSURE, "")
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.disconnected()

    def pause_writing(self) -> None:
        """Stop output (asyncio)."""
        self._paused = True
        if self._session is not None:
            self._session.pause_writing()
        self.take_output()

    def resume_writing(self) -> None:
        """Resume output (asyncio)."""
        self._paused = False
        if self._session is not None:
            self._session.resume_writing()
        self.go_on()

    # --- the event loop's side: reading ----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read bytes while the share of the peer's address lasts (asyncio)."""
        unread, share = self._unread, self._unread.share
        if self._open and unread.data is None and len(data) <= READ_BYTES and share.spent_s < SLICE_S:
            began = perf_counter()
            self.read(data)
            share.spent_s += perf_counter() - began
            if share.spent_s > SLICE_S / 2:
                share.renew_soon()
        elif self._closing and not self._open:
            return  # TLS may deliver bytes after the end
        elif unread.data is None and self._session is None and not self._open:
            self.read(data)  # the request
        else:
            if not unread.add(data):
                self.fail(FLOODED.number, FLOODED.reason)
            unread.read(self)
        if unread.data is not None or (self._session is not None and self._session.full):
            self._regulate()

    def read_on(self) -> None:
        """Resume reading: a new slice began, or the messages were taken."""
        self._unread.read(self)
        self._regulate()

    @property
    def may_read(self) -> bool:
        """Whether the next bytes may be read."""
        # After our close frame a peer is always read, for its own close frame.
        return self._open and (self._session is None or not self._session.full or self._closing)

    def _regulate(self) -> None:
        reading = self._unread.data is None and self.may_read
        if reading is not self.reading and not self.transport.is_closing():
            self.reading = reading
            (self.transport.resume_reading if reading else self.transport.pause_reading)()

    def read(self, data: bytes) -> bool:
        """Parse bytes and act on them; return whether they completed no frame."""
        conn = self._conn
        conn.receive_data(data)
        output = conn.data_to_send()  # pongs, and a close frame with the end of the stream
        for event in (events := conn.events_received()):
            if type(event) is Frame:
                if output and event.opcode is _PING and output[-1] != SEND_EOF:
                    self._write(output)
                    output = []
                self._take(event)
            elif type(event) is Request:
                self._begin(event)
        if output:
            self._write(output)
        return not events

    def _take(self, frame: Frame) -> None:
        violated = self._counter.take(frame)
        if self._closing:
            return
        if violated is not None:
            self.fail(violated.number, violated.reason)
            return
        opcode = frame.opcode
        if frame.fin and (opcode is _TEXT or opcode is _BINARY):
            self._deliver(bytes(frame.data), opcode is _TEXT)
        elif opcode is _TEXT or opcode is _BINARY or opcode is _CONT:
            message = self._counter.assemble(frame)
            if message is not None:
                self._deliver(message, self._counter.text)
        elif opcode is _PONG and self._keepalive is not None:
            self._keepalive.take_pong(bytes(frame.data))

    def _deliver(self, message: bytes, text: bool) -> None:
        if self.connection is None:
            if self._session is not None:
                self._session.receive_message(message, text)
        elif not text or message.isascii() or self._counter.is_utf8(message):
            self.connection.receive(message, text)
        else:
            self.fail(INVALID_DATA.number, INVALID_DATA.reason)

    def _flush(self) -> None:
        self._write(self._conn.data_to_send())

    def _write(self, output: list[bytes]) -> None:
        """Write frames of `websockets`; close the transport at `SEND_EOF`."""
        if not output or self.transport.is_closing():
            return
        ended = output[-1] == SEND_EOF
        if ended:
            self._report_end(output)
        self.transport.write(b"".join(output))
        if ended:
            self._hang_up()
        elif self._paused and self._counter.too_many_pongs(self.transport.get_write_buffer_size()):
            self.transport.abort()

    # --- the opening handshake -------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        replace_odd_bytes(request.headers)
        config, state, response = self._config, self._state, self._conn.accept(request)
        if response.status_code != 101:
            self.deny(response)
            return
        assert state is not None
        self.compressed = "Sec-WebSocket-Extensions" in response.headers
        scope = websocket_scope(request, self.transport, config.root_path, config.asgi_version, state)
        scope["extensions"][EXTENSION], self._state = self, None
        request.headers.clear()  # the parser keeps the request
        self._session = AsgiSession(
            cast(ASGIApp, config.loaded_app), scope, response, self._server.default_headers, self,
            config.ws_max_queue,
        )  # fmt: skip
        self._unread.share.charge(REQUEST_S)
        self._server.tasks.add(task := self._loop.create_task(self._session.run()))
        task.add_done_callback(self._server.tasks.discard)

    def accept(self, response: Response) -> None:
        """Send the response that ends the opening handshake."""
        if self.transport.is_closing():
            return
        self._conn.send_response(response)
        self._flush()
        self._open = True
        if interval_s := self._config.ws_ping_interval:
            self._keepalive = Keepalive(self, interval_s, self._config.ws_ping_timeout)
        self.read_on()  # the peer may not have waited for the response

    def deny(self, response: Response) -> None:
        """Send a response in place of a handshake and close the connection."""
        self._closing = True
        self._conn.send_response(response)
        self._flush()

    def attach(self, connection: Receiver) -> None:
        """Pass all further messages to a connection, after the waiting ones.

        The application returns after that. The connection continues until it is lost.
        """
        session, self._session = self._session, None
        if session is None:  # the peer is gone already
            connection.disconnected()
            return
        self.connection = connection
        for message, text in session.detach():
            connection.receive(message, text)
        self.read_on()

    # --- the application's side ------------------------------------------------------------------

    def send(self, data: bytes, text: bool) -> None:
        """Send a message of an ASGI application."""
        if self._conn.state is State.OPEN:
            (self._conn.send_text if text else self._conn.send_binary)(data)
            self._flush()

    def close(self, code: int, reason: str) -> None:
        """Start the closing handshake, bounded in time, unless it was started."""
        if self._closing or self._conn.state is not State.OPEN:
            return
        self._conn.send_close(code, short_reason(reason))
        self._closing = True
        self._flush()
        self._start_close_timer()
        self._stop_keepalive()
        self.read_on()

    def shutdown(self) -> None:
        """Close because the server stops (uvicorn)."""
        if self._session is not None and self._session.connecting:
            self._session.disconnect(CloseCode.SERVICE_RESTART, "")
            self.deny(denial(503, (), b"Service Unavailable"))
        elif self._open:
            self.fail(CloseCode.SERVICE_RESTART, "")
        else:
            self._hang_up()

    def fail(self, code: int, reason: str) -> None:
        """Close without waiting for the peer's answer, as after a violation."""
        self._closing = True
        self._conn.fail(code, reason)
        self._flush()

    def _report_end(self, output: list[bytes]) -> None:
        """Report the closing handshake or the violation to the application."""
        self._conn.receive_eof()  # nothing more is read, and `close_exc` is complete
        end = self._conn.close_exc
        if end.rcvd is not None and end.rcvd_then_sent:
            # A peer may close in the middle of a message (RFC 6455 section 5.4), for which `websockets`
            # has prepared the code of a violation: the peer's own code is sent back.
            output[-2] = close_frame(end.rcvd)
        close = end.rcvd or end.sent
        if self._session is not None and close is not None:
            self._session.disconnect(close.code, close.reason)

    def _hang_up(self) -> None:
        """Close the transport when its buffer is empty, or after `CLOSE_S`."""
        self._closing, self._open = True, False
        self._unread.drop(self)
        self._stop_keepalive()
        self.take_output()  # a closing transport drops it
        if self.connection is not None:
            self.connection.hung_up()
        self.transport.close()
        self._start_close_timer()

    def _start_close_timer(self) -> None:
        if self._close_timer is None:
            self._close_timer = self._loop.call_later(CLOSE_S, self.transport.abort)

    def _stop_keepalive(self) -> None:
        if self._keepalive is not None:
            self._keepalive.stop()
            self._keepalive = None

    def ping(self, payload: bytes) -> None:
        """Send a keep-alive ping."""
        if not self._closing:
            self._conn.send_ping(payload)
            self._flush()

    def unanswered(self) -> None:
        """Abort: a dead peer would never drain the buffer."""
        if not self._closing:
            self.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
            self.transport.abort()

    # --- output of an attached connection --------------------------------------------------------

    def cap_in_flight(self, cap: int) -> None:
        """Stop output while `cap` bytes are not acknowledged."""
        self.in_flight = InFlight(self.transport, cap, self.go_on)
        self.take_output()

    def take_output(self) -> bool:
        """Return whether output may be written; record it in the wire."""
        takes = not (self._paused or self._closing) and (self.in_flight is None or not self.in_flight.full)
        if self.wire is not None:
            self.wire.writable = takes
        return takes

    def go_on(self) -> None:
        """Let the connection write its waiting output, if allowed."""
        if self.take_output() and self.connection is not None:
            self.connection.writable_again()
