"""Operations of the doors for the OpenAPI document of their server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from bargein_protocol import InterruptResult

from ..operations import BODY, CLIENT, LET_IN, Answer, Content, Route, Schema, refused
from .ag_ui import RUN_PATH, RunInput
from .chat import CHAT_PATH, MODELS_PATH, ChatRequest
from .realtime.endpoint import SECRETS_PATH, Secret, SecretRequest
from .ui_socket import CHAT_PATH as UI_PATH
from .ui_turns import ChatBody

_JSON, _EVENTS = "application/json", "text/event-stream"
_TEXT: Schema = {"type": "string"}


class ApiFailure(Struct):
    """An error in OpenAI's form.

    Args:
        message: Its cause, and the remedy.
        type: Its kind, such as `invalid_request_error`.
        param: The field that is wrong, if it is known.
        code: Its code, if it has one.
    """

    message: str
    type: str
    param: str | None
    code: str | None


class ApiError(Struct):
    """Body of a refused request, in OpenAI's form."""

    error: ApiFailure


class Model(Struct):
    """The agent as a model.

    Args:
        id: Its name.
        created: Always 0.
        owned_by: Always `bargein`.
        object: Always `model`.
    """

    id: str
    created: int
    owned_by: str
    object: str


class Models(Struct):
    """The models, of which there is one."""

    data: list[Model]
    object: str


_COMPLETION: Schema = {
    "description": "A chat completion of OpenAI's API.",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "items": {"type": "object"}, "minItems": 1, "maxItems": 1},
        "usage": {"type": "object"},
    },
    "required": ["id", "object", "created", "model", "choices"],
}
_CHUNKS = {**_TEXT, "description": "Chunks of OpenAI's API as events, and `[DONE]`."}
_UI_CHUNKS = {**_TEXT, "description": "UI message chunks of the AI SDK as events, and `[DONE]`."}
_RUN = {**_TEXT, "description": "Events of AG-UI."}


def _failed(*statuses: int) -> tuple[Answer, ...]:
    return refused(*statuses, body=ApiError)


_UI_STREAM = Answer(200, "The chunks of the turn.", Content({_EVENTS: _UI_CHUNKS}))

OPERATIONS: dict[str, tuple[Route, ...]] = {
    "chat": (
        Route(
            MODELS_PATH, "get", "listModels", "List the agent as the one model.",
            (Answer(200, "The models.", Models), *_failed(*LET_IN)), security=CLIENT,
        ),
        Route(
            MODELS_PATH + "/{model}", "get", "getModel", "Read the model.",
            (Answer(200, "The model.", Model), *_failed(*LET_IN, 404)), None, ("model",), CLIENT,
        ),
        Route(
            CHAT_PATH, "post", "createChatCompletion",
            "Answer the last message, streamed or whole; closing the request interrupts.",
            (
                Answer(200, "The answer.", Content({_JSON: _COMPLETION, _EVENTS: _CHUNKS})),
                *_failed(*LET_IN, *BODY, 409),
            ),
            ChatRequest, (), CLIENT,
        ),
    ),
    "ai-sdk": (
        Route(
            UI_PATH, "post", "sendChatMessage",
            "Answer the last message, or go on with a turn after the client's answer.",
            (_UI_STREAM, *refused(*LET_IN, *BODY, 409)), ChatBody, ("version",), CLIENT,
        ),
        Route(
            UI_PATH + "/{chat_id}/stream", "get", "resumeChat", "Replay the running turn.",
            (_UI_STREAM, Answer(204, "No turn runs.", None), *refused(*LET_IN, 422)),
            None, ("chat_id",), CLIENT,
        ),
        Route(
            UI_PATH + "/{chat_id}/stop", "post", "stopChat", "Interrupt the running turn, or a named one.",
            (Answer(200, "The result of the interrupt.", InterruptResult), *refused(*LET_IN, 404, 409, 422)),
            None, ("chat_id", "messageId"), CLIENT,
        ),
    ),
    "ag-ui": (
        Route(
            RUN_PATH, "post", "runAgent",
            "Answer the last message, or go on with a turn; closing the request interrupts.",
            (Answer(200, "The events of the run.", Content({_EVENTS: _RUN})), *refused(*LET_IN, *BODY, 409)),
            RunInput, (), CLIENT,
        ),
    ),
    "realtime": (
        Route(
            SECRETS_PATH, "post", "createClientSecret", "Issue a key for a browser.",
            (Answer(200, "The key.", Secret), *_failed(*LET_IN, 400, 408, 413, 415)),
            SecretRequest, (), CLIENT,
        ),
    ),
}  # fmt: skip
"""Operations by the name of the door; `twilio` has a WebSocket alone."""


def door_operations(names: Iterable[str]) -> Iterator[Route]:
    """Yield the operations of doors."""
    for name in dict.fromkeys(names):
        yield from OPERATIONS.get(name, ())
