"""Chat completions: OpenAI's API for every client with a base URL.

The API is stateless and has no interrupt: a client sends the whole conversation, and closes the request to
stop an answer. With an id of the conversation in a header, one session is behind it, and its history has what
was heard and what tools returned. Tools of the server do not show, because the client would run them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct, json
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bargein_protocol import (
    InputText,
    ToolOutput,
)

from ...guard.admission import Admission, Refused
from ...hosting.host import SessionHost
from ...hosting.registry import SessionRegistry
from ..call import HEADERS, Call, refusal_headers
from ..endpoint import HttpEndpoint
from .completion import Completion, error_body
from .conversation import (
    answer_calls,
    ask,
    close_session,
    last_turn,
    new_input_id,
    open_session,
    session_headers,
    stream,
)
from .files import attachments_of, chat_files
from .messages import MessageCall, earlier_messages, text_of
from .whole import collect

MODELS_PATH, CHAT_PATH = "/v1/models", "/v1/chat/completions"

CONVERSATION_HEADERS = ("X-Conversation-Id", "X-OpenWebUI-Chat-Id", "X-LibreChat-Conversation-Id")
"""Headers with the client's id of the conversation.

The first that is present counts.
"""

TASKS = (
    "### Task:",
    "Provide a concise, 5-word-or-less title for the conversation",
    "Analyze this conversation and provide:\n1. The detected language",
)
"""Starts of the prompts with which Open WebUI and LibreChat ask for titles, tags and follow-ups.

They come with the headers of the conversation, and are no part of it.
"""

_UNSET = ("new", "null", "undefined")
"""Values that clients put in place of an id that a new conversation does not have yet."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}

_encode = json.Encoder().encode


class ChatMessage(Struct):
    """A message of a request.

    Args:
        content: A text, or parts of text, images, sound and files.
    """

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[MessageCall] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """Text of the message."""
        return text_of(self.content)


class StreamOptions(Struct):
    """Options of a stream."""

    include_usage: bool = False


class ChatRequest(Struct):
    """Body of a request.

    Other fields are ignored, because they are the agent's choice.

    Args:
        user: The client's name for its user, which the agent gets.
        metadata: Values for the agent, as in the API.
        tools: Tools of the client, which an agent may allow.
    """

    messages: list[ChatMessage]
    model: str = ""
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    tools: list[Any] | None = None


def routes(sessions: Callable[[], SessionRegistry], admission: Admission, name: str) -> Iterator[BaseRoute]:
    """Yield the routes.

    Args:
        sessions: Returns the sessions of the running event loop.
        admission: Decides which requests are served.
        name: Name of the agent, which is its model's id.
    """

    async def models(call: Call) -> Response:
        await call.authenticate(None)
        return _json({"object": "list", "data": [_model(name)]})

    async def model(call: Call) -> Response:
        await call.authenticate(None)
        if call.request.path_params["model"] != name:
            raise Refused(404, f"there is one model: {name}")
        return _json(_model(name))

    async def completions(call: Call) -> Response | None:
        return await complete(call, name)

    for path, method, handler in (
        (MODELS_PATH, "GET", models),
        (MODELS_PATH + "/{model:path}", "GET", model),
        (CHAT_PATH, "POST", completions),
    ):
        yield Route(path, HttpEndpoint(sessions, admission, handler, deny), methods=[method])


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "bargein"}


def _json(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encode(body), status, {**HEADERS, **(headers or {})}, "application/json")


def deny(refused: Refused, admission: Admission) -> Response:
    """Count a refused request and return an error in OpenAI's form."""
    headers = refusal_headers(refused, admission)
    kind = _TYPES.get(refused.status, "server_error")
    code = {401: "invalid_api_key", 429: "rate_limit_exceeded", 404: "not_found"}.get(refused.status)
    return _json(error_body(refused.reason, kind, code), refused.status, headers)


# --- a request -----------------------------------------------------------------------------------


async def complete(call: Call, name: str) -> Response | None:
    """`POST /v1/chat/completions`: answer the last message."""
    await call.authenticate(None)  # before the body is read
    asked = await call.decoded(ChatRequest, call.sessions.settings.max_conversation_bytes)
    if asked.n is not None and asked.n != 1:
        raise Refused(400, "expected n to be 1")
    last = asked.messages[-1] if asked.messages else None
    if last is None or last.role not in ("user", "tool"):
        raise Refused(400, "expected a message of the user or of a tool at the end")
    own_id = None if last.text.startswith(TASKS) else _own_id(call)
    host = await open_session(call, own_id)
    try:
        return await _answer(call, host, asked, name)
    finally:
        if own_id is None:
            close_session(host)


def _own_id(call: Call) -> str | None:
    for header in CONVERSATION_HEADERS:
        value: str | None = call.request.headers.get(header)
        # A client may leave a placeholder as it is, such as {{LIBRECHAT_BODY_CONVERSATIONID}}.
        if value and value not in _UNSET and "{{" not in value:
            return value
    return None


async def _answer(call: Call, host: SessionHost, asked: ChatRequest, name: str) -> Response | None:
    outputs = _outputs(asked.messages)
    answered: Collection[str] = ()
    if outputs:
        turn = last_turn(host)
        start = None if turn is None else host.core.outside.start_of(turn.input.id)
        if turn is None or start is None or not answer_calls(host, outputs):
            raise Refused(409, "no call waits for this result: its turn is over")
        input_id, answered = turn.input.id, [output.call_id for output in outputs]
    else:
        last = asked.messages[-1]
        files = attachments_of(chat_files(last.content), call.sessions.attachments)
        input_id = new_input_id("chat")
        question = InputText(id=input_id, text=last.text, metadata=_metadata(asked), attachments=files)
        start = ask(call, host, earlier_messages(asked.messages, chat_files), question)
    usage = asked.stream_options is not None and asked.stream_options.include_usage
    translator = Completion(host, asked.model or name, usage, answered)
    if asked.stream:
        await stream(call, host, input_id, start, translator, {}, interrupts=True)
        return None
    if not await collect(call, host, input_id, start, translator):
        return None
    if translator.failure is not None:
        # Clients would send the request again by themselves, and the agent would run twice.
        headers = {"x-should-retry": "true" if translator.retryable else "false"}
        return _json(translator.failure, 503 if translator.retryable else 500, headers)
    return _json(translator.whole(), headers=session_headers(host))


def _outputs(messages: Sequence[ChatMessage]) -> list[ToolOutput]:
    outputs: list[ToolOutput] = []
    for message in reversed(messages):
        if message.role != "tool":
            break
        if message.tool_call_id and len(message.tool_call_id) <= 128:
            outputs.insert(0, ToolOutput(call_id=message.tool_call_id, output=message.text))  # type: ignore[arg-type]
    return outputs


def _metadata(asked: ChatRequest) -> dict[str, Any]:
    """Return the metadata for the agent, with the client's instructions."""
    instructions = [message.text for message in asked.messages if message.role in ("system", "developer")]
    metadata = dict(asked.metadata or {})
    if instructions:
        metadata["instructions"] = "\n\n".join(instructions)
    if asked.model:
        metadata["model"] = asked.model
    if asked.user:
        metadata["user"] = asked.user
    if asked.tools:
        metadata["tools"] = asked.tools
    return metadata
