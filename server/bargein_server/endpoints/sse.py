"""`/v1/turns` and `/v1/sessions`, as Server-Sent Events."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from msgspec.structs import replace
from starlette.responses import Response

from bargein_protocol import (
    ErrorEvent,
    InputId,
    InputText,
    Interrupt,
    SessionOpen,
    Token,
    TurnRequest,
)
from bargein_protocol.errors import OVERLOADED

from ..guard.admission import RETRY_AFTER_S, Refused
from ..hosting.host import SessionHost
from ..transport.event_stream import HEADERS, SSE, EventStreamWire, FollowerConnection, StreamConnection
from .call import COOKIE, SESSION_HEADER, TOKEN_HEADER, Call, check
from .responses import PROTOCOL_HEADER, json_answer


async def start_turn(call: Call) -> None:
    """`POST /v1/turns`: request a turn, and stream until it has ended."""
    asked = await call.decoded(TurnRequest)
    call.authenticate(asked.auth)
    question = InputText(
        id=asked.id or InputId("in_" + secrets.token_hex(8)),
        text=asked.text,
        on_busy=asked.on_busy,
        metadata=asked.metadata,
    )
    opening = SessionOpen(
        resume=asked.resume,
        pending=[*(asked.pending or ()), question],
        client=asked.client,
    )
    await _stream(call, opening, question.id)


async def open_session(call: Call) -> None:
    """`POST /v1/sessions`: drive a session over an event stream."""
    opening = await call.decoded(SessionOpen)
    call.authenticate(opening.auth)
    await _stream(call, replace(opening, auth=None), None)


async def _stream(call: Call, opening: SessionOpen, until: InputId | None) -> None:
    sessions = call.sessions
    cursor = call.cursor()
    if opening.resume is not None and cursor is not None:
        opening = replace(opening, resume=replace(opening.resume, cursor=cursor))
    check(opening)
    if until is not None:
        _, refused = sessions.resumable(opening.resume, call.caller.principal, sessions.loop.time())
        if refused is not None:
            # A turn that was requested in one session must not run in another.
            raise Refused(404, f"the session cannot be resumed: {refused}")
        if sessions.draining and opening.resume is None:
            raise Refused(503, "the server is shutting down", RETRY_AFTER_S)
    wire = EventStreamWire(call.send)
    connection = StreamConnection(wire, sessions, call.caller, until)
    connection.take(opening)
    live = connection.host
    if live is None:
        connection.disconnected()
        if wire.closed is OVERLOADED:
            raise Refused(503, "the server is full", RETRY_AFTER_S)
        raise Refused(500, "the server failed")
    headers = {
        PROTOCOL_HEADER: "1",
        SESSION_HEADER: live.view.id,
        "Set-Cookie": _cookie(call, live),
    }
    await wire.run(connection, live.core.side_channel.cursor.epoch, headers, call.receive)


def _cookie(call: Call, live: SessionHost) -> str:
    """Return the cookie for following the session with an `EventSource`.

    An `EventSource` cannot set headers.
    """
    path = f"{call.request.scope.get('root_path', '')}/v1/sessions/{live.view.id}"
    secure = "; Secure" if call.request.url.scheme == "https" else ""
    return f"{COOKIE}={live.new_viewer_token()}; Path={path}; HttpOnly; SameSite=Strict{secure}"


async def interrupt_turn(call: Call) -> Response:
    """`POST /v1/sessions/{id}/interrupt`: end a turn, from any connection."""
    event = await call.decoded(Interrupt)
    live = call.session()
    [answer] = live.act(live.core.side_channel.request, event)
    return json_answer(answer, 409 if isinstance(answer, ErrorEvent) else 200)


async def session_events(call: Call) -> Response | None:
    """`/v1/sessions/{id}/events`, for both methods.

    One route answers a wrong method with a complete `Allow` header.
    """
    return await (send_event if call.request.method == "POST" else follow_session)(call)


async def send_event(call: Call) -> Response:
    """`POST /v1/sessions/{id}/events`: send an event; answers use the stream."""
    frame = await call.body(call.sessions.settings.max_frame_bytes)
    live = call.session()
    token = call.request.headers.get(TOKEN_HEADER)
    if token is None or not live.core.identity.is_current(Token(token)):
        # An event that was sent before its client reconnected must not confirm the new token.
        raise Refused(404, "expected the newest token of the session")
    connection = live.connection
    if not isinstance(connection, StreamConnection):
        raise Refused(409, "no event stream drives this session")
    connection.receive(frame, True)
    return Response(status_code=202, headers={PROTOCOL_HEADER: "1", "Cache-Control": "no-store"})


async def follow_session(call: Call) -> Response | None:
    """`GET /v1/sessions/{id}/events`: follow a session without driving it."""
    live = call.session()
    side_channel = live.core.side_channel
    cursor = call.cursor()
    start = call.request.query_params.get("from", "start")
    if start not in ("start", "now"):
        raise Refused(422, "expected from=start or from=now")
    if cursor is None and start == "now":
        cursor = side_channel.cursor
    follower = side_channel.follow(SSE, cursor)
    if follower is None:
        raise Refused(404, "the session has another numbering")
    headers: Mapping[str, str] = {PROTOCOL_HEADER: "1", SESSION_HEADER: live.view.id}
    if call.request.method == "HEAD":
        return Response(headers={**HEADERS, **headers})
    wire = EventStreamWire(call.send)
    connection = FollowerConnection(wire, call.sessions, live, follower)
    await wire.run(connection, side_channel.cursor.epoch, headers, call.receive)
    return None
