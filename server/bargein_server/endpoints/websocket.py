"""`/v1/session`: the native protocol on a WebSocket."""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocket

from bargein_protocol import Codec, negotiate

from ..shell.asgi_wire import AsgiWire
from ..shell.connection import Connection
from ..shell.sessions import Sessions
from ..shell.uvicorn_protocol import EXTENSION, BargeinProtocol, TransportWire


async def serve_session(websocket: WebSocket, sessions: Sessions) -> None:
    """Do the handshake, attach the connection to the best wire there is, and wait for its end."""
    chosen = negotiate(websocket.scope.get("subprotocols", []))
    if chosen is None:
        await websocket.send_denial_response(PlainTextResponse("unknown subprotocol", status_code=400))
        return
    codec, subprotocol = chosen
    await websocket.accept(subprotocol)
    protocol = websocket.scope.get("extensions", {}).get(EXTENSION)
    if isinstance(protocol, BargeinProtocol) and not protocol.conn.extensions:
        await _on_transport(protocol, codec, sessions)
    else:
        wire = AsgiWire(websocket, codec.text)
        await wire.run(Connection(wire, codec, sessions))


async def _on_transport(protocol: BargeinProtocol, codec: Codec, sessions: Sessions) -> None:
    connection = Connection(TransportWire(protocol, codec.text), codec, sessions)
    protocol.attach(connection)
    await connection.lost
