"""uvicorn's HTTP protocol with limits on request heads.

uvicorn has no timeout for a head: a peer that sends half a head, or nothing at all, would keep its
connection forever. The write buffer is as small as that of WebSockets, because output of an event stream
cannot be purged once it is there. Of uvicorn's class it uses the callbacks of `asyncio.Protocol` and the
attribute `conn`, the `h11.Connection`, with its public states.
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..settings import Settings
from ..transport.wire import HIGH_WATER

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class HeadTimeoutProtocol(H11Protocol):
    """HTTP/1.1 protocol that bounds the time and the size of request heads.

    Between a response and the next head, uvicorn's own keep-alive timeout applies.

    Attributes:
        head_bytes: Bytes that a head may have.
        head_s: Seconds that a head may take, from the connection or from the head's first byte.
    """

    head_s = Settings().request_head_s
    head_bytes = Settings().max_head_bytes
    _accepted: asyncio.Transport
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Start the timer of the first head (asyncio)."""
        self._accepted = cast(asyncio.Transport, transport)
        super().connection_made(self._accepted)
        self._accepted.set_write_buffer_limits(high=HIGH_WATER)
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        """Refuse a head that is too large, and start or stop the timer (asyncio)."""
        if self.conn.their_state is h11.IDLE and self._head_is_large(data):
            self._accepted.write(_TOO_LARGE)
            self._accepted.close()
            return
        super().data_received(data)
        # After an upgrade the state of a request is that of its end.
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer (asyncio)."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def _head_is_large(self, data: bytes) -> bool:
        # h11 bounds only incomplete heads; a head that arrives in a single read is not checked.
        head: bytes = self.conn.trailing_data[0] + data
        end = head.find(b"\r\n\r\n")
        return (len(head) if end < 0 else end + 4) > self.head_bytes

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self._accepted.is_closing():
            self._accepted.abort()

    def _start_head_timer(self) -> None:
        self._head_timer = asyncio.get_running_loop().call_later(self.head_s, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
