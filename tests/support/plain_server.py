"""A plain ASGI application behind uvicorn, on our WebSocket protocol or on uvicorn's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect

from bargein_server import BargeinProtocol
from waiting import WAIT_S, until

Kind = Literal["ours", "uvicorn's"]
Serve = Callable[..., Any]

Endpoint = Callable[[WebSocket], Awaitable[None]]


class Served:
    """Server with one application.

    Attributes:
        server: uvicorn's.
        port: Where it listens.
    """

    def __init__(self, server: uvicorn.Server, port: int) -> None:
        self.server = server
        self.port = port

    def connect(self, path: str = "/", **options: Any) -> Any:
        """Connect a client."""
        return connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options)


@asynccontextmanager
async def serving_app(app: ASGIApp, kind: Kind, **options: Any) -> AsyncIterator[Served]:
    """Serve an application until the block ends."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, ws=BargeinProtocol if kind == "ours" else "websockets-sansio",
        log_config=None, lifespan="off", interface="asgi3", timeout_graceful_shutdown=1, **options,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    try:
        await until(lambda: server.started or task.done(), "the server")
        yield Served(server, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await task


def route(endpoint: Endpoint) -> Starlette:
    """Return an application with one endpoint."""
    return Starlette(routes=[WebSocketRoute("/", endpoint)])


async def closed(socket: ClientConnection) -> tuple[int | None, str | None]:
    """Wait for the end of a connection; return its code and its reason."""
    async with asyncio.timeout(WAIT_S):
        await socket.wait_closed()
    return socket.close_code, socket.close_reason


async def echoing(websocket: WebSocket) -> None:
    """Echo."""
    await websocket.accept()
    with suppress(WebSocketDisconnect):
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await websocket.send({**message, "type": "websocket.send"})
