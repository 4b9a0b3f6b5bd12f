"""Routes of the Realtime door: the WebSocket, and keys for browsers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from msgspec import Struct, ValidationError, convert, json
from msgspec.structs import replace
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketState

from ....cluster.forwarding import FORWARDED
from ....cluster.letters import caller_of
from ....cluster.websocket_forwarding import FORWARDED_BODY
from ....guard.admission import Admission, Caller, Refused
from ....guard.authentication import AccessRequest
from ....hosting.host import SessionHost
from ....hosting.own_ids import Unavailable, own_session_id
from ....hosting.registry import SessionRegistry
from ....transport.peer_limits import CAN_CAP
from ....transport.websocket_protocol import EXTENSION, BargeinProtocol
from ....transport.wires import AsgiWire, TransportWire
from ...access import access_request, while_connected, whole_handshake
from ...call import HEADERS, Call, address_of, local_of, refusal_headers
from ...endpoint import HttpEndpoint
from ...websocket import deny
from ..completion import error_body
from ..conversation import MAX_OWN_ID_CHARS, session_headers
from ..json_connection import object_of
from .configuration import first_session, patched
from .connection import RealtimeConnection
from .requests import BadRequest

REALTIME_PATH: str = "/v1/realtime"
SECRETS_PATH: str = "/v1/realtime/client_secrets"
SUBPROTOCOL = "realtime"
KEY_ITEM = "openai-insecure-api-key."
EPHEMERAL = "ek_"

MAX_PATCH_BYTES = 16 * 1024
"""Size of a configuration that comes with a key."""


class Secret(Struct, frozen=True):
    """A key for a browser.

    Args:
        value: The key.
        expires_at: Time at which it expires, in seconds since 1970.
        session: The configuration of its session.
    """

    value: str
    expires_at: int
    session: dict[str, Any]


class SecretRequest(Struct):
    """Body of a request for a key.

    Args:
        session: The configuration of its session.
    """

    session: dict[str, Any] | None = None


class RealtimeDoor:
    """The endpoints of the door.

    Args:
        sessions: Returns the sessions of the running event loop.
        admission: Decides which requests are served.
        agent: Name of the agent, which is the model for clients that name none.
    """

    def __init__(self, sessions: Callable[[], SessionRegistry], admission: Admission, agent: str) -> None:
        self._sessions = sessions
        self._admission = admission
        self._agent = agent

    async def issue(self, call: Call) -> Response:
        """Answer with a key for a browser.

        Raises:
            Refused: The client is unknown, or the body is not valid.
        """
        await call.authenticate(None)
        admission, principal = self._admission, call.caller.principal
        body = object_of(await call.body(MAX_PATCH_BYTES), MAX_PATCH_BYTES)
        try:
            asked = convert(body, SecretRequest)
        except ValidationError:
            raise Refused(400, "expected a JSON object with session") from None
        try:
            session = patched(
                first_session("", self._agent, call.sessions.ears is not None), asked.session or {}
            )
        except BadRequest as error:
            raise Refused(400, f"{error.param}: {error}") from None
        note = json.encode(asked.session) if asked.session else b""
        value = EPHEMERAL + await admission.issue_key(principal, note)
        expires_at = int(time.time() + admission.tickets.lifetime_s)
        answer = Secret(value, expires_at, session)
        return Response(json.encode(answer), media_type="application/json")

    async def serve(self, websocket: WebSocket) -> None:
        """Complete the handshake and serve the connection, here or at the owner."""
        extensions = websocket.scope.get("extensions", {})
        if FORWARDED in extensions:
            await self._serve_here(websocket, caller_of(extensions[FORWARDED]), extensions[FORWARDED_BODY])
            return
        address, sessions = address_of(websocket.client), self._sessions()
        offered: list[str] = websocket.scope.get("subprotocols", [])
        key = _key(websocket.headers, offered)
        try:
            caller = self._enter(websocket, address)
        except Refused as refused:
            await deny(websocket, _error(refused, self._admission))
            return
        admitted = False
        try:
            if not await while_connected(websocket, self._identify(access_request(websocket), caller, key)):
                return
            note = caller.note or b""
            if await self._is_elsewhere(websocket, caller, sessions, note):
                return
            host = await self._host(websocket, caller, sessions)
            admitted = True
        except Refused as refused:
            await deny(websocket, _error(refused, self._admission))
        finally:
            if not admitted:  # also when the client leaves meanwhile
                self._admission.leave(address)
        if admitted:
            await self._run(websocket, sessions, caller, host, note)

    async def _serve_here(self, websocket: WebSocket, caller: Caller, note: bytes) -> None:
        """Serve a client that another process has authenticated, and counts."""
        sessions = self._sessions()
        try:
            host = await self._host(websocket, caller, sessions)
        except Refused as refused:
            await deny(websocket, _error(refused, self._admission))
        else:
            await self._run(websocket, sessions, caller, host, note, counted=False)

    async def _is_elsewhere(
        self, websocket: WebSocket, caller: Caller, sessions: SessionRegistry, note: bytes
    ) -> bool:
        """Let the owner of the conversation serve; return False if it is here."""
        own_id, elsewhere = websocket.query_params.get("conversation"), sessions.elsewhere
        if own_id is None or elsewhere is None or sessions.draining:
            return False
        session_id = own_session_id(caller.principal, own_id)
        if sessions.has(session_id) or not elsewhere.may_have(session_id):
            return False
        try:
            return await elsewhere.forward(
                session_id, websocket.scope, whole_handshake(websocket), websocket.send, caller, note
            )
        except (OSError, TimeoutError):
            if websocket.application_state is not WebSocketState.CONNECTING:
                return True
            raise Refused(503, "the session is not available now") from None

    def _enter(self, websocket: WebSocket, address: str) -> Caller:
        """Admit a connection before its key, which may be one for a browser."""
        headers = {name: value for name, value in websocket.headers.items() if name != "authorization"}
        local = local_of(websocket.scope)
        return self._admission.enter(headers, websocket.url.scheme, [], address, local)

    async def _identify(self, request: AccessRequest, caller: Caller, key: str | None) -> None:
        """Ask for the principal and the note of a key.

        Raises:
            Refused: The key is missing or wrong, or it cannot be checked now.
        """
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        await self._admission.identify(caller, replace(request, headers=headers))
        secret = key.removeprefix(EPHEMERAL) if key is not None else None
        if not await caller.identify(secret):
            raise Refused(401, "the key is missing, wrong, used or too old")
        if secret is not None:
            caller.note = await self._admission.note_of(caller, secret)

    async def _host(
        self, websocket: WebSocket, caller: Caller, sessions: SessionRegistry
    ) -> SessionHost | None:
        """Return the session of the client's own conversation id, else None."""
        own_id = websocket.query_params.get("conversation")
        if sessions.draining:
            raise Refused(503, "the server is shutting down")
        if own_id is None:
            return None
        if not 0 < len(own_id) <= MAX_OWN_ID_CHARS:
            raise Refused(422, f"expected a conversation of 1 to {MAX_OWN_ID_CHARS} characters")
        try:
            return await sessions.own_ids.open(caller.principal, own_id, caller.owner)
        except Unavailable:
            raise Refused(503, "the session is not available now") from None

    async def _run(
        self,
        websocket: WebSocket,
        sessions: SessionRegistry,
        caller: Caller,
        host: SessionHost | None,
        note: bytes,
        *,
        counted: bool = True,
    ) -> None:
        patch: dict[str, Any] | None = json.decode(note) if note else None
        address = address_of(websocket.client)
        model = websocket.query_params.get("model") or self._agent
        attached = False
        try:
            offered = websocket.scope.get("subprotocols", [])
            named = {} if host is None else session_headers(host)
            headers = [(name.lower().encode(), value.encode()) for name, value in named.items()]
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None, headers)
            protocol = websocket.scope.get("extensions", {}).get(EXTENSION)
            if isinstance(protocol, BargeinProtocol) and not protocol.compressed:
                if sessions.settings.max_in_flight_bytes and CAN_CAP:
                    protocol.cap_in_flight(sessions.settings.max_in_flight_bytes)
                wire = TransportWire(protocol, text=True)
                connection = RealtimeConnection(wire, sessions, caller, model, patch)
                protocol.attach(connection)
                connection.lost.add_done_callback(lambda lost: self._admission.leave(address))
                attached = True
                connection.open(host)
            else:
                below = AsgiWire(websocket, True)
                connection = RealtimeConnection(below, sessions, caller, model, patch)
                connection.open(host)
                await below.run(connection)
        finally:
            if counted and not attached:
                self._admission.leave(address)


def routes(sessions: Callable[[], SessionRegistry], admission: Admission, agent: str) -> Iterator[BaseRoute]:
    """Yield the routes of the door."""
    door = RealtimeDoor(sessions, admission, agent)
    yield WebSocketRoute(REALTIME_PATH, door.serve)
    yield Route(SECRETS_PATH, HttpEndpoint(sessions, admission, door.issue, _error), methods=["POST"])


def _key(headers: Headers, offered: list[str]) -> str | None:
    """Return the key of a client: of a header, or of a browser's subprotocol."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if headers.get("api-key"):
        return headers["api-key"]
    return next((item.removeprefix(KEY_ITEM) for item in offered if item.startswith(KEY_ITEM)), None)


def _error(refused: Refused, admission: Admission) -> Response:
    """Return a refusal in the form of OpenAI's API."""
    code = "invalid_api_key" if refused.status == 401 else None
    kind = "server_error" if refused.status >= 500 else "invalid_request_error"
    return Response(
        json.encode(error_body(refused.reason, kind, code)),
        refused.status,
        {**HEADERS, **refusal_headers(refused, admission)},
        "application/json",
    )
