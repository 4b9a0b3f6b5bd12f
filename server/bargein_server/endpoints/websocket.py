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
    """Do the handshake and attach the connection to the best wire there is.

    On the transport it goes on when this returns (`BargeinProtocol.attach`); on plain ASGI this waits
    for its end.
    """
    offered: list[str] = websocket.scope.get("subprotocols", [])
    chosen = negotiate([item for item in offered if not item.startswith(TICKET_ITEM)])
    address = websocket.client.host if websocket.client is not None else ""
    local = (websocket.scope.get("server") or ("", None))[0]
    try:
        if chosen is None:
            raise Refused(400, "unknown subprotocol")
        visitor = door.enter(websocket.headers, websocket.url.scheme, offered, address, local)
    except Refused as refused:
        await websocket.send_denial_response(denial(refused, door))
        return
    attached = False
    try:
        codec, subprotocol = chosen
        await websocket.accept(subprotocol)
        protocol = websocket.scope.get("extensions", {}).get(EXTENSION)
        if isinstance(protocol, BargeinProtocol) and not protocol.conn.extensions:
            connection = _attach(protocol, sessions, visitor, codec)
            connection.lost.add_done_callback(lambda lost: door.leave(address))
            attached = True
        else:
            wire = AsgiWire(websocket, codec.text)
            await wire.run(Connection(wire, codec, sessions, visitor))
    finally:
        if not attached:
            door.leave(address)


def _attach(protocol: BargeinProtocol, sessions: Sessions, visitor: Visitor, codec: Codec) -> Connection:
    if sessions.settings.in_flight_bytes:
        protocol.cap_in_flight(sessions.settings.in_flight_bytes)
    connection = Connection(TransportWire(protocol, codec.text, sessions.outbox), codec, sessions, visitor)
    protocol.attach(connection)
    return connection
