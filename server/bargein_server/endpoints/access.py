"""Authentication of handshakes and requests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import HTTPConnection
from starlette.types import Message, Receive
from starlette.websockets import WebSocket, WebSocketState

from ..guard.admission import Admission, Caller
from ..guard.authentication import AccessRequest

_ASGI = {
    "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path",
    "headers", "client", "server", "extensions", "subprotocols", "app", "router", "endpoint", "path_params",
}  # fmt: skip
"""Keys of a scope that are of ASGI and of our own application."""


def access_request(connection: HTTPConnection) -> AccessRequest:
    """Return the part of a request or handshake that authenticators see."""
    query = connection.scope.get("query_string", b"").decode("latin-1")
    return AccessRequest(
        path=connection.url.path,
        address=connection.client.host if connection.client is not None else None,
        headers=connection.headers,
        cookies=connection.cookies,
        query_names=tuple(dict.fromkeys(name for name, _ in parse_qsl(query, keep_blank_values=True))),
        context={name: value for name, value in connection.scope.items() if name not in _ASGI},
    )


async def identified(
    websocket: WebSocket, admission: Admission, caller: Caller, request: AccessRequest
) -> bool:
    """Ask for the principal of a handshake.

    Returns:
        False when the client has left meanwhile; there is nobody to answer then.

    Raises:
        Refused: The client is denied, or it cannot be checked now.
    """
    if not admission.asks(caller):
        return True
    return await while_connected(websocket, admission.identify(caller, request))


async def while_connected(websocket: WebSocket, work: Coroutine[Any, Any, None]) -> bool:
    """Await the work for a handshake, and cancel it when the client leaves.

    Returns:
        False when the client has left.
    """
    loop = asyncio.get_running_loop()
    if websocket.client_state is WebSocketState.CONNECTING:
        await websocket.receive()  # `websocket.connect`
    working = loop.create_task(work, name="authenticate handshake")
    leaving = loop.create_task(websocket.receive(), name="client of a handshake")
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if leaving.done() or not working.done():
            return False
        working.result()
        return True
    finally:
        # The next one who receives must be the only one.
        pending = [task for task in (working, leaving) if task.cancel()]
        if pending:
            await asyncio.wait(pending)


def whole_handshake(websocket: WebSocket) -> Receive:
    """Return `receive` that begins the handshake, for another application."""
    begun = websocket.client_state is WebSocketState.CONNECTING

    async def receive() -> Message:
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "websocket.connect"}
        return await websocket.receive()

    return receive
