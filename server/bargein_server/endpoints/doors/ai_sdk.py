"""AI SDK: UI message streams for `useChat` and its other clients.

The client sends its messages with every request. A closed request is a lost client, as a closed tab is; `POST
/api/chat/{id}/stop` interrupts. `GET /api/chat/{id}/stream` replays the running turn from its first chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from bargein_protocol import ErrorEvent, Interrupt, TurnId

from ...guard.admission import Admission, Refused
from ...hosting.registry import SessionRegistry
from ..call import HEADERS, Call, json_answer
from ..endpoint import HttpEndpoint
from .conversation import find_session, interrupt_id, last_turn, stream
from .ui_socket import CHAT_PATH, serve_chats
from .ui_turns import Answer, answer_body, running_answer

STREAM_HEADERS = {"x-vercel-ai-ui-message-stream": "v1"}
FRAME, LAST = b"data: %s\n\n", b"data: [DONE]\n\n"


def routes(sessions: Callable[[], SessionRegistry], admission: Admission, name: str) -> Iterator[BaseRoute]:
    """Yield the routes; `name` is that of the agent."""
    for path, method, handler in (
        (CHAT_PATH, "POST", send_message),
        (CHAT_PATH + "/{chat_id}/stream", "GET", resume_stream),
        (CHAT_PATH + "/{chat_id}/stop", "POST", stop),
    ):
        yield Route(path, HttpEndpoint(sessions, admission, handler), methods=[method])

    async def socket(websocket: WebSocket) -> None:
        await serve_chats(websocket, sessions(), admission)

    yield WebSocketRoute(CHAT_PATH, socket)


async def send_message(call: Call) -> None:
    """`POST /api/chat`: answer the last message, or go on with a turn."""
    await call.authenticate(None)  # before the body is read
    body = await call.decoded(dict[str, Any], call.sessions.settings.max_conversation_bytes)
    answer = await answer_body(call, body, call.request.query_params.get("version") == "5")
    await _respond(call, answer)


async def resume_stream(call: Call) -> Response | None:
    """`GET /api/chat/{id}/stream`: replay the running turn, or answer 204."""
    await call.authenticate(None)
    answer = await running_answer(call, call.request.path_params["chat_id"])
    if answer is None:
        return Response(status_code=204, headers=HEADERS)
    if call.request.method == "HEAD":  # a stream without a reader must not count as heard
        return Response(headers={**HEADERS, **STREAM_HEADERS})
    await _respond(call, answer)
    return None


async def stop(call: Call) -> Response:
    """`POST /api/chat/{id}/stop`: interrupt the running or a named turn."""
    await call.authenticate(None)
    host = await find_session(call, call.request.path_params["chat_id"])
    if host is None:
        raise Refused(404, "no such chat")
    turn_id = call.request.query_params.get("messageId")
    current = last_turn(host)
    named = TurnId(turn_id) if turn_id is not None else None if current is None else current.id
    event = Interrupt(id=interrupt_id(), turn_id=named)
    [answer] = host.act(host.core.side_channel.request, event)
    return json_answer(answer, 409 if isinstance(answer, ErrorEvent) else 200)


async def _respond(call: Call, answer: Answer) -> None:
    await stream(
        call, answer.host, answer.input_id, answer.after, answer.translator, STREAM_HEADERS,
        interrupts=False, frame=FRAME, last=LAST,
    )  # fmt: skip
