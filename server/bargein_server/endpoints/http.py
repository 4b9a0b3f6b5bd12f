"""Endpoints over HTTP: turns, sessions and batches."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial

import msgspec
from msgspec.structs import replace
from starlette.responses import Response
from starlette.types import Receive

from bargein_protocol import (
    BatchAnswer,
    BatchRequest,
    BatchResult,
    ErrorEvent,
    InputId,
    InputText,
    Interrupt,
    SessionOpen,
    Token,
    TurnRequest,
)
from bargein_protocol.errors import OVERLOADED, SHARE_USED

from ..core.side_channel import Follower
from ..guard.admission import RETRY_AFTER_S, Refused, rare_log
from ..hosting.host import SessionHost
from ..transport.batch import Batch
from ..transport.event_stream import HEADERS, SSE, EventStreamWire, FollowerConnection, StreamConnection
from .call import COOKIE, PROTOCOL_HEADER, SESSION_HEADER, TOKEN_HEADER, Call, check, json_answer


async def start_turn(call: Call) -> None:
    """`POST /v1/turns`: request a turn, and stream until it has ended."""
    asked = await call.decoded(TurnRequest)
    await call.authenticate(asked.auth)
    question = InputText(
        id=asked.id or InputId("in_" + secrets.token_hex(8)),
        text=asked.text,
        on_busy=asked.on_busy,
        metadata=asked.metadata,
        attachments=asked.attachments,
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
    await call.authenticate(opening.auth)
    await _stream(call, replace(opening, auth=None), None)


async def _stream(call: Call, opening: SessionOpen, until: InputId | None) -> None:
    sessions = call.sessions
    cursor, cookie_path = call.cursor(), call.cookie_path()
    if opening.resume is not None and cursor is not None:
        opening = replace(opening, resume=replace(opening.resume, cursor=cursor))
    check(opening)
    if opening.resume is not None:
        await call.forward(opening.resume.session_id)
    if sessions.restorer is not None:
        code = await sessions.restorer.restore_resumed(opening.resume, call.caller.principal)
        if code is not None:
            raise Refused(503, "the session cannot be restored now", RETRY_AFTER_S)
    if until is not None:
        _, refused = sessions.resumable(opening.resume, call.caller.principal, sessions.loop.time())
        if refused is not None:
            # A turn that was requested in one session must not run in another.
            raise Refused(404, f"the session cannot be resumed: {refused}")
        if sessions.draining and opening.resume is None:
            raise Refused(503, "the server is shutting down", RETRY_AFTER_S)
    call.release_body()
    wire = EventStreamWire(call.send)
    connection = StreamConnection(wire, sessions, call.caller, until)
    connection.take(opening)
    live = connection.host
    if live is None:
        connection.disconnected()
        if wire.closed is OVERLOADED:
            raise Refused(503, "the server is full", RETRY_AFTER_S)
        if wire.closed is SHARE_USED:
            raise Refused(429, SHARE_USED.reason, RETRY_AFTER_S)
        raise Refused(500, "the server failed")
    headers = {
        PROTOCOL_HEADER: "1",
        SESSION_HEADER: live.view.id,
    }
    if cookie_path is not None:
        headers["Set-Cookie"] = _cookie(call, live, cookie_path)
    await wire.run(connection, live.core.side_channel.cursor.epoch, headers, call.receive)


def _cookie(call: Call, live: SessionHost, path: str) -> str:
    """Return the cookie for following the session with an `EventSource`.

    An `EventSource` cannot set headers. Only clients that ask for a cookie get one, and it has an age,
    because a browser keeps a bounded number of cookies of a site, the site's own among them.
    """
    path = f"{path}/v1/sessions/{live.view.id}"
    age = int(call.sessions.settings.idle_s)
    secure = "; Secure" if call.request.url.scheme == "https" else ""
    value = live.viewer_token.renew(live.core.persistence)
    return f"{COOKIE}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"


async def interrupt_turn(call: Call) -> Response:
    """`POST /v1/sessions/{id}/interrupt`: end a turn, from any connection."""
    await call.restore()
    call.session()  # refuses before the body is read
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
    await call.restore()
    call.session()  # refuses before the body is read
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
    await call.restore()
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
    connection = FollowerConnection(wire, call.sessions, live, follower, _use_snapshot(call, follower))
    await wire.run(connection, side_channel.cursor.epoch, headers, call.receive)
    return None


def _use_snapshot(call: Call, follower: Follower) -> Callable[[], None] | None:
    """Count a follower's snapshot; return the function that releases it.

    Raises:
        Refused: Too many bytes of snapshots wait to be read.
    """
    shared, snapshots = follower.snapshot(), call.sessions.snapshots
    if shared is None:
        return None
    call.admission.rates.spend(call.caller.address, len(shared.frame), call.sessions.loop.time())
    if not snapshots.use(shared):
        rare_log.warning("followers are refused: those that follow already do not read their snapshots")
        raise Refused(503, "too many followers do not read", RETRY_AFTER_S)
    return partial(snapshots.release, shared)


NDJSON = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"

_encode = msgspec.json.Encoder().encode


class _ClientLeft(Exception):
    """The request was closed before its answer was complete."""


async def answer_batch(call: Call) -> None:
    """Answer all inputs in one response.

    The results come in order at the end, or in the order of completion when the client accepts a stream.
    Closing the request ends all running turns, because no client could resume them.
    """
    settings = call.sessions.settings
    await call.authenticate(None)  # before the body is read
    asked = await call.decoded(BatchRequest, settings.max_batch_bytes)
    if len(asked.inputs) > settings.max_batch_inputs:
        raise Refused(413, f"expected at most {settings.max_batch_inputs} inputs")
    for item in asked.inputs:
        check(SessionOpen(pending=[InputText(id=InputId("in"), text=item.text, metadata=item.metadata)]))
    if call.sessions.draining:
        raise Refused(503, "the server is shutting down", RETRY_AFTER_S)
    accept = call.request.headers.get("accept", "")
    try:
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(_until_left(call.receive))
            batch = Batch(call.sessions, call.caller, asked, group)
            if EVENT_STREAM in accept or NDJSON in accept:
                await _stream_results(call, batch, len(asked.inputs), EVENT_STREAM in accept)
            else:
                results = [await batch.results.get() for _ in asked.inputs]
                results.sort(key=lambda result: result.index)
                answer = json_answer(BatchAnswer(results=results))
                await answer(call.request.scope, call.receive, call.send)
            leaving.cancel()
    except* (_ClientLeft, OSError):
        pass


async def _stream_results(call: Call, batch: Batch, count: int, events: bool) -> None:
    headers = {**HEADERS, PROTOCOL_HEADER: "1"}
    if not events:
        headers["Content-Type"] = NDJSON
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await call.send({"type": "http.response.start", "status": 200, "headers": raw})
    async for result in _kept_alive(batch, count, call.sessions.settings.heartbeat_s):
        if result is None:
            body = b": heartbeat\n\n" if events else b"\n"
        else:
            body = b"event: batch.result\ndata: %s\n\n" if events else b"%s\n"
            body %= _encode(result)
        await call.send({"type": "http.response.body", "body": body, "more_body": True})
    await call.send({"type": "http.response.body", "body": b"", "more_body": False})


async def _kept_alive(batch: Batch, count: int, silence_s: float) -> AsyncIterator[BatchResult | None]:
    """Yield `count` results, and None after each `silence_s` without one."""
    while count:
        try:
            async with asyncio.timeout(silence_s):
                result = await batch.results.get()
        except TimeoutError:
            yield None
        else:
            count -= 1
            yield result


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _ClientLeft
