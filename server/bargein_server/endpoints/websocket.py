"""WebSocket sessions at `/v1/session`, and tickets for their handshake."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from bargein_protocol import Codec, negotiate

from ..guard.admission import Admission, Caller, Refused
from ..guard.authentication import TICKET_ITEM
from ..guard.refusals import CREDENTIAL_NEEDED
from ..hosting.registry import SessionRegistry
from ..transport.connection import Connection
from ..transport.peer_limits import CAN_CAP
from ..transport.websocket_protocol import EXTENSION, BargeinProtocol
from ..transport.wires import AsgiWire, TransportWire
from .access import access_request, identified
from .call import Ticket, address_of, denial, json_answer, local_of


async def answer_ticket(request: Request, admission: Admission) -> Response:
    """Answer 201 with a ticket for the client of the request, or refuse."""
    try:
        principal = await admission.authenticate(access_request(request), address_of(request.client))
    except Refused as refused:
        return denial(refused, admission)
    if principal is None:
        return denial(Refused(401, CREDENTIAL_NEEDED), admission)
    ticket = await admission.issue_shared_ticket(principal)
    return json_answer(Ticket(ticket, int(admission.tickets.lifetime_s * 1000)), 201)


async def serve_session(websocket: WebSocket, sessions: SessionRegistry, admission: Admission) -> None:
    """Complete the handshake and attach the connection to a wire.

    With `BargeinProtocol` the wire is the transport, and the connection goes on after this returns. With
    another server the wire is ASGI, and this waits for the end of the connection.
    """
    offered: list[str] = websocket.scope.get("subprotocols", [])
    chosen = negotiate([item for item in offered if not item.startswith(TICKET_ITEM)])
    address = address_of(websocket.client)
    local = local_of(websocket.scope)
    try:
        if chosen is None:
            raise Refused(400, "unknown subprotocol")
        caller = admission.enter(websocket.headers, websocket.url.scheme, offered, address, local)
    except Refused as refused:
        await deny(websocket, denial(refused, admission))
        return
    attached = False
    try:
        codec, subprotocol = chosen
        if not await identified(websocket, admission, caller, access_request(websocket)):
            return
        await websocket.accept(subprotocol)
        protocol = websocket.scope.get("extensions", {}).get(EXTENSION)
        if isinstance(protocol, BargeinProtocol) and not protocol.compressed:
            connection = _attach(protocol, sessions, caller, codec)
            connection.lost.add_done_callback(lambda lost: admission.leave(address))
            attached = True
        else:
            wire = AsgiWire(websocket, codec.text)
            await wire.run(Connection(wire, codec, sessions, caller))
    except Refused as refused:
        await deny(websocket, denial(refused, admission))
    finally:
        if not attached:
            admission.leave(address)


async def deny(websocket: WebSocket, response: Response) -> None:
    """Refuse a handshake with a response, or with 403 where none can be sent."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(response)
    else:
        await websocket.close()


def _attach(protocol: BargeinProtocol, sessions: SessionRegistry, caller: Caller, codec: Codec) -> Connection:
    if sessions.settings.max_in_flight_bytes and CAN_CAP:
        protocol.cap_in_flight(sessions.settings.max_in_flight_bytes)
    connection = Connection(TransportWire(protocol, codec.text), codec, sessions, caller)
    protocol.attach(connection)
    return connection
