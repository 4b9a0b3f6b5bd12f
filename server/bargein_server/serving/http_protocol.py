"""uvicorn's HTTP protocol with limits on connections, heads and bodies.

uvicorn has a timeout between requests alone. A peer that sends half a head or half a body, or does not read
the response, would keep its connection forever. So each state of a connection has a timer here, and each
socket is counted from accept to close, also while a WebSocket has it.

The write buffer is as small as that of WebSockets, because output of an event stream cannot be purged once
it is there. Of uvicorn's class it uses the callbacks of `asyncio.Protocol` and of its own cycle, and the
attribute `conn`, the `h11.Connection`, with its public states.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio.transports import BaseTransport
from enum import Enum, auto
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..guard.limits import RareLog
from ..hosting.ports import HIGH_WATER
from ..settings import Settings
from ..transport.sockets import REQUEST_S, Sockets, Unread

log = RareLog(logging.getLogger("bargein.server"))

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n"
)
_HTTP_2 = b"PRI * HTTP/2.0\r\n\r\n"
_HTTP_1_ONLY = b"HTTP/1.1 505 HTTP Version Not Supported\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

CLOSE_S = 10.0
"""Seconds in which a closed connection must send its last bytes; then it is aborted."""

ANSWER_S = 2.0
"""Seconds that an application has for its answer to a body that is late."""


def invalid_requests(record: logging.LogRecord) -> bool:
    """Return whether a uvicorn record is logged; bare bad requests are not."""
    if record.msg != "Invalid HTTP request received.":
        return True
    log.warning("a request is answered with 400, because it is no HTTP; a proxy or a scanner may send TLS")
    return False


class _State(Enum):
    IDLE = auto()
    """Between requests; uvicorn's keep-alive timer runs."""
    HEAD = auto()
    BODY = auto()
    RESPONDING = auto()
    """The request is complete. The application sends its response, within bounds of its own."""
    STALLED = auto()
    """The peer does not read."""
    CLOSING = auto()


class BoundedHttpProtocol(H11Protocol):
    """HTTP/1.1 protocol in which each state of a connection is bounded.

    Attributes:
        head_bytes: Bytes that a head may have.
        head_s: Seconds that a head may take, from the connection or from the head's first byte.
        body_s: Seconds that a body may take.
        stalled_s: Seconds that a peer may leave a response unread.
        sockets: The open sockets of the server.
    """

    head_s = Settings().request_head_s
    head_bytes = Settings().max_head_bytes
    body_s = Settings().request_body_s
    stalled_s = Settings().stalled_s
    sockets: Sockets
    _accepted: asyncio.Transport
    _unread: Unread
    _watched: _State = _State.IDLE
    _timer: asyncio.TimerHandle | None = None
    _paused = False  # the transport's buffer is above its mark
    _answered = False  # a response was sent
    _upgraded = False  # a WebSocket has the transport
    _discards = False  # the response is complete, and the rest of the request is dropped

    # --- the event loop's side -------------------------------------------------------------------

    def connection_made(self, transport: BaseTransport) -> None:
        """Count the socket, and start the timer of the first head (asyncio)."""
        self._accepted = cast(asyncio.Transport, transport)
        super().connection_made(self._accepted)
        self._accepted.set_write_buffer_limits(high=HIGH_WATER)
        if not self.sockets.enter(transport, self.client[0] if self.client else None):
            log.warning(
                "connections are refused: raise --max-connections or --max-connections-per-address, "
                "or limit connections in a proxy"
            )
            self._refuse(_FULL)
        self._unread = Unread(self.sockets.share(transport))
        self._watch(_State.HEAD)

    def data_received(self, data: bytes) -> None:
        """Read bytes while the share of the peer's address lasts (asyncio)."""
        if not self._unread.add(data):
            log.warning(
                "uploads are dropped: more than 32 MiB of one address wait to be read; "
                "trust a proxy with FORWARDED_ALLOW_IPS, or limit its connections"
            )
            self._accepted.abort()
        self.read_on()

    def read_on(self) -> None:
        """Continue to read; the transport is read again when nothing waits."""
        unread, flow = self._unread, self.flow
        unread.read(self)
        if self._upgraded or self._accepted.is_closing():
            unread.drop(self)
        if unread.data is not None:
            self._accepted.pause_reading()
        elif not flow.read_paused:
            self._accepted.resume_reading()

    @property
    def may_read(self) -> bool:
        """Whether the next bytes may be read."""
        return not self._upgraded and not self._accepted.is_closing()

    def read(self, data: bytes) -> bool:
        """Refuse a head that is too large, and bound the next state; return True."""
        if self._discards or self._accepted.is_closing():
            return True
        if self.conn.their_state is h11.IDLE and data.startswith(_HTTP_2):
            log.warning("a connection is refused that speaks HTTP/2: let the proxy speak HTTP/1.1 to here")
            self._refuse(_HTTP_1_ONLY)
        elif self.conn.their_state is h11.IDLE and self._head_is_large(data):
            self._refuse(_TOO_LARGE)
        else:
            cycle = self.cycle
            super().data_received(data)
            if self.cycle is not cycle:
                self._unread.share.charge(REQUEST_S)
        self._watch()
        return True

    def eof_received(self) -> None:
        """Let asyncio close the transport (asyncio)."""
        super().eof_received()
        self._watch(_State.CLOSING)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer and let the socket go (asyncio)."""
        self._stop_timer()
        self._unread.drop(self)
        self.sockets.leave(self._accepted)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Bound the time that the peer does not read (asyncio)."""
        super().pause_writing()
        self._paused = True
        self._watch()

    def resume_writing(self) -> None:
        """Stop the timer of a peer that reads again (asyncio)."""
        super().resume_writing()
        self._paused = False
        self._watch()

    # --- uvicorn's side --------------------------------------------------------------------------

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the transport over to the WebSocket protocol (uvicorn)."""
        self._upgraded = True
        self._stop_timer()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP; close if a response can have no body."""
        state = self.conn.our_state
        for_head = state is h11.SEND_RESPONSE and self.scope["method"] == "HEAD"
        if state in (h11.IDLE, h11.SEND_RESPONSE) and not for_head:
            super().send_400_response(msg)
        else:
            self._accepted.close()

    def on_response_complete(self) -> None:
        """Close after a response to a request whose body was not read (uvicorn).

        The rest of the body is read and dropped until the keep-alive timer closes the transport. An immediate
        close would reset the connection, and the peer might not see the response (RFC 9112 section 9.6).
        """
        self._answered = True
        unread = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()
        if unread and not self._accepted.is_closing():
            self._discards = True
            if self._accepted.can_write_eof():
                self._accepted.write_eof()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection without a further request (uvicorn)."""
        super().timeout_keep_alive_handler()
        self._watch()

    # --- timers ----------------------------------------------------------------------------------

    def _watch(self, state: _State | None = None) -> None:
        """Start the timer of the current state, unless it runs already."""
        if self._upgraded:
            return
        state = self._state() if state is None or self._accepted.is_closing() else state
        if state is self._watched:
            return
        self._stop_timer()
        self._watched = state
        seconds = {
            _State.HEAD: self.head_s,
            _State.BODY: self.body_s + ANSWER_S,
            _State.STALLED: self.stalled_s,
            _State.CLOSING: CLOSE_S,
        }.get(state)
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def _state(self) -> _State:
        theirs = self.conn.their_state
        if self._accepted.is_closing():
            return _State.CLOSING
        if self._paused:
            return _State.STALLED
        if theirs is h11.IDLE:
            return _State.HEAD if not self._answered or self.conn.trailing_data[0] else _State.IDLE
        if theirs is h11.SEND_BODY and not self._discards:
            return _State.BODY
        return _State.RESPONDING

    def _expire(self) -> None:
        self._timer = None
        self._accepted.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_large(self, data: bytes) -> bool:
        # h11 bounds only incomplete heads; a head that arrives in a single read is not checked.
        head: bytes = self.conn.trailing_data[0] + data
        end = head.find(b"\r\n\r\n")
        return (len(head) if end < 0 else end + 4) > self.head_bytes

    def _refuse(self, response: bytes) -> None:
        self._accepted.write(response)
        self._accepted.close()
