"""`POST /v1/batch`: many inputs, each answered in a session of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.responses import Response
from starlette.types import Receive

from bargein_protocol import BatchAnswer, BatchRequest, BatchResult, InputId, InputText, SessionOpen

from ..guard.admission import RETRY_AFTER_S, Refused
from ..transport.batch import Batch
from ..transport.event_stream import HEADERS as STREAM_HEADERS
from .call import Call, check
from .responses import HEADERS

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
    asked = await call.decoded(BatchRequest, settings.max_batch_bytes)
    call.authenticate(None)
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
                await _stream(call, batch, len(asked.inputs), EVENT_STREAM in accept)
            else:
                results = [await batch.results.get() for _ in asked.inputs]
                results.sort(key=lambda result: result.index)
                answer = Response(_encode(BatchAnswer(results=results)), 200, HEADERS, "application/json")
                await answer(call.request.scope, call.receive, call.send)
            leaving.cancel()
    except* (_ClientLeft, OSError):
        pass


async def _stream(call: Call, batch: Batch, count: int, events: bool) -> None:
    headers = {**STREAM_HEADERS, **HEADERS, "Cache-Control": STREAM_HEADERS["Cache-Control"]}
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
