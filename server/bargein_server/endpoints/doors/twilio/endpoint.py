"""Route of the door for phone calls: the WebSocket of Twilio streams."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket

from ....guard.admission import Admission, Caller, Refused
from ....hosting.registry import SessionRegistry
from ....transport.peer_limits import CAN_CAP
from ....transport.websocket_protocol import EXTENSION, BargeinProtocol
from ....transport.wires import AsgiWire, TransportWire
from ...access import access_request, identified
from ...call import address_of, denial, local_of
from ...websocket import deny
from .connection import TwilioConnection
from .signature import is_signed

TWILIO_PATH = "/v1/twilio"
AUTH_TOKEN, STREAM_URL = "TWILIO_AUTH_TOKEN", "TWILIO_STREAM_URL"
"""Environment variables: the account's auth token, and the URL in the TwiML."""


async def serve_call(
    sessions: Callable[[], SessionRegistry], admission: Admission, websocket: WebSocket
) -> None:
    """Complete the handshake of a call and serve it."""
    address, registry = address_of(websocket.client), sessions()
    auth_token = os.environ.get(AUTH_TOKEN, "")
    try:
        if registry.draining:
            raise Refused(503, "the server is shutting down")
        if registry.ears is None:
            raise Refused(503, "this server does not listen: start it with --voice")
        path, public_url = websocket.scope["path"], os.environ.get(STREAM_URL, "")
        if auth_token and not is_signed(websocket.headers, path, auth_token, public_url):
            raise Refused(403, "the signature is missing or wrong; the door's page has the remedy")
        local = local_of(websocket.scope)
        caller = admission.enter(websocket.headers, websocket.url.scheme, [], address, local)
    except Refused as refused:
        await deny(websocket, denial(refused, admission))
        return
    attached = False
    try:
        request = access_request(websocket)
        if not auth_token and not await identified(websocket, admission, caller, request):
            return
        await websocket.accept()
        attached = await _run(websocket, registry, admission, caller, address, bool(auth_token))
    except Refused as refused:
        await deny(websocket, denial(refused, admission))
    finally:
        if not attached:
            admission.leave(address)


async def _run(
    websocket: WebSocket,
    registry: SessionRegistry,
    admission: Admission,
    caller: Caller,
    address: str,
    signed: bool,
) -> bool:
    """Serve an accepted call; return whether it goes on, on the transport."""
    protocol = websocket.scope.get("extensions", {}).get(EXTENSION)
    if isinstance(protocol, BargeinProtocol) and not protocol.compressed:
        if registry.settings.max_in_flight_bytes and CAN_CAP:
            protocol.cap_in_flight(registry.settings.max_in_flight_bytes)
        connection = TwilioConnection(TransportWire(protocol, text=True), registry, caller, signed)
        protocol.attach(connection)
        connection.lost.add_done_callback(lambda lost: admission.leave(address))
        return True
    below = AsgiWire(websocket, True)
    await below.run(TwilioConnection(below, registry, caller, signed))
    return False


def routes(sessions: Callable[[], SessionRegistry], admission: Admission, agent: str) -> Iterator[BaseRoute]:
    """Yield the route of the door."""
    yield WebSocketRoute(TWILIO_PATH, partial(serve_call, sessions, admission))
