"""uvicorn, set up for interruptions and told to end turns before it ends connections."""

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
    """Return the configuration that bargein is measured with.

    Compression is off: for frames of a token it costs three times the processor and memory and saves
    nothing, and the direct write path cannot use it.
    """
    of_heads = {"head_s": settings.head_s, "head_bytes": settings.head_bytes}
    http = type("HttpProtocol", (HeadTimeoutProtocol,), of_heads)
    of_frames = {"__slots__": (), "max_pieces": settings.frame_pieces, "max_pong_bytes": settings.pong_bytes}
    websocket = type("WebSocketProtocol", (BargeinProtocol,), of_frames)
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=http,
        ws=websocket,
        ws_max_size=settings.frame_bytes,
        ws_per_message_deflate=False,
        # A peer that stands still, with nothing on its way that it would have to acknowledge.
        ws_ping_interval=settings.stalled_s / 2,
        ws_ping_timeout=settings.stalled_s,
        timeout_graceful_shutdown=5,
        log_level=log_level,
        log_config=None,  # what uvicorn logs goes where everything goes
        access_log=False,
        server_header=False,
    )


class Server(uvicorn.Server):
    """A server that gives turns their end before it closes connections.

    uvicorn closes every WebSocket first and runs the lifespan's shutdown last, when nobody is left
    to be told how their turn ended.

    Args:
        config: See `uvicorn_config`.
        drain: Awaited before connections are closed; ends the turns within a bound of its own and
            returns how many of their tasks are stuck.
        announce: Called with the port when the server listens.
        flush: Called in a thread when all is closed. The signal that stopped the server ends the
            process after that: nothing that waits for its exit would run.

    Attributes:
        stuck: How many tasks did not end. An event loop that is closed in the usual way would wait
            for them for ever.
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
        """Listen, then say so."""
        await super().startup(sockets)
        if self.started:
            listening = sockets or [sock for server in self.servers for sock in server.sockets]
            self._announce(listening[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept nobody more, end the turns, then let uvicorn close what is left."""
        for server in self.servers:
            server.close()
        self.stuck = await self._drain()
        await super().shutdown(sockets)
        if self._flush is not None:
            await asyncio.to_thread(self._flush)
