"""uvicorn, configured for interruptions; turns end before connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.applications import Starlette

from ..settings import Settings
from ..transport.websocket_protocol import BargeinProtocol
from .http_protocol import HeadTimeoutProtocol

log = logging.getLogger("bargein.server")

Drain = Callable[[], Awaitable[int]]


def uvicorn_config(
    app: Starlette, settings: Settings, host: str, port: int, log_level: str
) -> uvicorn.Config:
    """Return the configuration of uvicorn that is benchmarked.

    Compression is off: for the frame of a token it takes three times the CPU time and the memory and
    saves no bytes, and frames that go straight to the transport cannot have it.
    """
    head_limits = {"head_s": settings.request_head_s, "head_bytes": settings.max_head_bytes}
    http = type("HttpProtocol", (HeadTimeoutProtocol,), head_limits)
    frame_limits = {"max_pieces": settings.max_frame_fragments, "max_pong_bytes": settings.max_pong_bytes}
    websocket = type("WebSocketProtocol", (BargeinProtocol,), {"__slots__": (), **frame_limits})
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=http,
        ws=websocket,
        ws_max_size=settings.max_frame_bytes,
        ws_per_message_deflate=False,
        # For a peer that stands still while nothing is on its way that TCP would have to acknowledge.
        ws_ping_interval=settings.stalled_s / 2,
        ws_ping_timeout=settings.stalled_s,
        timeout_graceful_shutdown=5,
        log_level=log_level,
        log_config=None,  # uvicorn logs through the handlers of the process
        access_log=False,
        server_header=False,
    )


class Server(uvicorn.Server):
    """Server that ends turns before it closes connections.

    uvicorn closes every WebSocket first and runs the lifespan's shutdown last, when no client is
    connected any more that could receive the end of its turn.

    Args:
        config: The configuration (`uvicorn_config`).
        drain: Awaited before connections are closed; ends the turns within a bound of its own and
            returns the number of their tasks that are stuck.
        announce: Called with the port when the server listens.
        flush: Called in a thread after everything was closed. The signal that stopped the server ends
            the process after that, and exit handlers of Python do not run.

    Attributes:
        stuck: Number of tasks that did not end. An event loop that is closed in the usual way would
            wait for them for ever.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        drain: Drain,
        announce: Callable[[int], None],
        flush: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(config)
        self.stuck = 0
        self._drain = drain
        self._announce = announce
        self._flush = flush

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then announce the port."""
        await super().startup(sockets)
        if self.started:
            listening = sockets or [sock for server in self.servers for sock in server.sockets]
            self._announce(listening[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, end the turns, then let uvicorn close all connections."""
        for server in self.servers:
            server.close()
        self.stuck = await self._drain()
        await super().shutdown(sockets)
        if self._flush is not None:
            await asyncio.to_thread(self._flush)
