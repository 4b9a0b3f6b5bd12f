"""`/v1/session`: the native protocol on a WebSocket."""

from __future__ import annotations

from starlette.websockets import WebSocket

from bargein_protocol import Codec, negotiate

from ..guard.authentication import TICKET_ITEM
from ..guard.door import Door, Refused, Visitor
from ..shell.asgi_wire import AsgiWire
from ..shell.connection import Connection
from ..shell.sessions import Sessions
from ..shell.uvicorn_protocol import EXTENSION, BargeinProtocol, TransportWire
from .answers import denial


async def serve_session(websocket: WebSocket, sessions: Sessions, door: Door) -> None:
    """Do the handshake, attach the connection to the best wire there is, and wait for its end."""
    offered: list[str] = websocket.scope.get("subprotocols", [])
    chosen = negotiate([item for item in offered if not item.startswith(TICKET_ITEM)])
    address = websocket.client.host if websocket.client is not None else ""
    local = (websocket.scope.get("server") or ("", None))[0]
    try:
        if chosen is None:
            raise Refused(400, "unknown subprotocol")
        with door.admit(websocket.headers, websocket.url.scheme, offered, address, local) as visitor:
            await _serve(websocket, sessions, visitor, *chosen)
    except Refused as refused:
        await websocket.send_denial_response(denial(refused, door))


async def _serve(
    websocket: WebSocket, sessions: Sessions, visitor: Visitor, codec: Codec, subprotocol: str | None
) -> None:
    await websocket.accept(subprotocol)
    protocol = websocket.scope.get("extensions", {}).get(EXTENSION)
    if isinstance(protocol, BargeinProtocol) and not protocol.conn.extensions:
        if sessions.settings.in_flight_bytes:
            protocol.cap_in_flight(sessions.settings.in_flight_bytes)
        connection = Connection(TransportWire(protocol, codec.text), codec, sessions, visitor)
        protocol.attach(connection)
        await connection.lost
    else:
        wire = AsgiWire(websocket, codec.text)
        await wire.run(Connection(wire, codec, sessions, visitor))
