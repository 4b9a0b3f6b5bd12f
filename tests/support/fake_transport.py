"""The WebSocket protocol on a transport in memory, with an application that attaches or a plain one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from bargein_server.transport.websocket_protocol import EXTENSION, BargeinProtocol
from raw_websocket import HEAD


class FakeTransport(asyncio.Transport):
    """Transport that keeps its writes.

    Attributes:
        written: The writes, until `take`.
        buffered: Size of the write buffer, as the protocol sees it.
    """

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 5000), "sockname": ("192.0.2.2", 80)})
        self.written: list[bytes] = []
        self.buffered = 0
        self._paused = False
        self._closing = False
        self._aborted = False

    def write(self, data: Any) -> None:
        if not self._closing:
            self.written.append(bytes(data))

    def take(self) -> bytes:
        """Return what was written since the last call."""
        written, self.written = b"".join(self.written), []
        return written

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def is_closing(self) -> bool:
        return self._closing

    def is_paused(self) -> bool:
        """Return whether reading is paused."""
        return self._paused

    def is_aborted(self) -> bool:
        """Return whether it was aborted."""
        return self._aborted

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = self._aborted = True


class Attached:
    """Connection that records.

    Attributes:
        messages: The messages that it was handed.
        answer: Called with each of them.
        hang_ups: How often the end of output was reported.
        losses: How often the loss was reported.
        resumptions: How often it was asked to continue writing.
    """

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bool]] = []
        self.answer: Callable[[bytes], None] = lambda message: None
        self.hang_ups = self.losses = 0
        self.resumptions = 0

    def receive(self, frame: bytes, text: bool) -> None:
        self.messages.append((frame, text))
        self.answer(frame)

    def writable_again(self) -> None:
        self.resumptions += 1

    def hung_up(self) -> None:
        self.hang_ups += 1

    def disconnected(self) -> None:
        self.losses += 1


class Bench:
    """A protocol between a fake transport and an application.

    Args:
        app: The application; None for one that attaches `attached`.
        limits: Class attributes of the protocol.
        options: Options of uvicorn.

    Attributes:
        attached: The connection.
    """

    def __init__(
        self, app: ASGIApp | None = None, *, limits: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.attached = Attached()
        quiet = {"ws_per_message_deflate": False, "ws_ping_interval": None, "log_config": None}
        options = {**quiet, "interface": "asgi3", "proxy_headers": False, **options}
        config = Config(cast(Any, app or self._attach), **options)
        config.load()
        self.state = ServerState()
        kind = type("Limited", (BargeinProtocol,), {"__slots__": (), **(limits or {})})
        self.protocol: BargeinProtocol = kind(config, self.state, {"pool": 1})
        self.transport = FakeTransport()
        self.protocol.connection_made(self.transport)

    async def _attach(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        scope["extensions"][EXTENSION].attach(self.attached)

    async def open(self, extra: str = "") -> bytes:
        """Do the handshake; return the response."""
        self.read((HEAD + extra + "\r\n").encode())
        await self.settle()
        return self.transport.take()

    def read(self, data: bytes) -> None:
        """Let the peer send bytes."""
        self.protocol.data_received(data)

    def lose(self) -> None:
        """Lose the connection."""
        self.transport.close()
        self.protocol.connection_lost(None)

    async def settle(self) -> None:
        """Let the application's task run as far as it can."""
        for _ in range(10):
            await asyncio.sleep(0)
