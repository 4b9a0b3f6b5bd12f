"""uvicorn's HTTP protocol with limits on request heads.

uvicorn has no time limit: a peer that sends half a head, or nothing at all, would hold its connection
for ever. Its buffer is as small as that of WebSockets, because what it holds of an event stream cannot
be purged. It rests on `conn`, `transport` and `loop` of uvicorn's class and on h11's public states.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..settings import Settings
from ..transport.asgi_wire import HIGH_WATER

_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class HeadTimeoutProtocol(H11Protocol):
    """See the module.

    Attributes:
        head_bytes: How large a head may be.
        head_s: Seconds that a request's head may take, from the connection or the head's first byte.
    """

    head_s = Settings().request_head_s
    head_bytes = Settings().max_head_bytes
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the loop."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._head_timer = self.loop.call_later(self.head_s, self._head_is_late)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self.conn.their_state is h11.IDLE and self._head_is_large(data):
            self.transport.write(_TOO_LARGE)
            self.transport.close()
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_s, self._head_is_late)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over."""
        self._stop_head_timer()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """From here on uvicorn's keep-alive time counts, until the next head begins."""
        super().on_response_complete()
        self._stop_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def _head_is_large(self, data: bytes) -> bool:
        # h11 bounds only heads that are not whole yet; one that comes in a single read passes it.
        head: bytes = self.conn.trailing_data[0] + data
        end = head.find(b"\r\n\r\n")
        return (len(head) if end < 0 else end + 4) > self.head_bytes

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
