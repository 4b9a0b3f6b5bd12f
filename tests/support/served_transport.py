"""The whole server behind a transport in memory: heads, bodies and frames come as bytes cut anywhere.

The transport keeps the promises of asyncio's: no bytes after `close` or while reading is paused, the protocol
that was set last gets them, and `connection_lost` comes once, in a later iteration.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from bargein_server import Agent, Authenticator, Settings, create_app
from bargein_server.serving.server import uvicorn_config
from fake_transport import FakeTransport


class ServedTransport(FakeTransport):
    """Transport of one connection of a `Served` server.

    Attributes:
        protocol: The protocol that gets the bytes.
        output: All bytes that were written.
        lost: Whether `connection_lost` was called.
    """

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.output = bytearray()
        self.lost = False
        self._waiting: deque[bytes] = deque()
        self._losing = False

    def write(self, data: Any) -> None:
        if not self._closing:
            self.output += data

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer."""
        self._waiting.append(data)
        self._deliver()

    def resume_reading(self) -> None:
        super().resume_reading()
        asyncio.get_running_loop().call_soon(self._deliver)

    def close(self) -> None:
        super().close()
        if not self._losing:
            self._losing = True
            asyncio.get_running_loop().call_soon(self._lose)

    def abort(self) -> None:
        super().abort()
        self.close()

    def _deliver(self) -> None:
        while self._waiting and not self._paused and not self._closing:
            self.protocol.data_received(self._waiting.popleft())

    def _lose(self) -> None:
        self.lost = True
        self.protocol.connection_lost(None)


class Served:
    """A server whose connections are transports in memory.

    Attributes:
        app: Its application.
        faults: Exceptions that reached the event loop.
    """

    def __init__(self, app: Any, config: Config) -> None:
        self.app = app
        self.faults: list[BaseException | str] = []
        self._config = config
        self.state = ServerState()

    def connect(self) -> ServedTransport:
        """Return the transport of a new connection."""
        kind: Any = self._config.http_protocol_class
        protocol = kind(config=self._config, server_state=self.state, app_state={})
        transport = ServedTransport(protocol)
        protocol.connection_made(transport)
        return transport

    @property
    def sockets(self) -> int:
        """Number of sockets that are counted as open."""
        kind: Any = self._config.http_protocol_class
        return len(kind.sockets)

    def take_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Record an exception that reached the event loop."""
        self.faults.append(context.get("exception") or context["message"])


@asynccontextmanager
async def served(
    agent: Agent, *, authenticator: Authenticator | None = None, **settings: Any
) -> AsyncIterator[Served]:
    """Serve an agent until the block ends."""
    limits = Settings(**{"drain_s": 0.0, **settings})
    app = create_app(agent, limits, authenticator=authenticator)
    config = uvicorn_config(app, limits, "127.0.0.1", 0, "critical")
    config.load()
    server, loop = Served(app, config), asyncio.get_running_loop()
    loop.set_exception_handler(server.take_fault)
    try:
        async with app.router.lifespan_context(app):
            yield server
    finally:
        loop.set_exception_handler(None)
