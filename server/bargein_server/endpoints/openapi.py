"""OpenAPI 3.1 document of the HTTP side, made from its routes and structs.

`scripts/schema.py` writes it to `protocol/`, and the server serves it; a test compares the routes with the
application's.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

import msgspec
from msgspec import Struct

from bargein_protocol import (
    Action,
    BatchAnswer,
    BatchRequest,
    ClientEvent,
    ErrorEvent,
    Interrupt,
    InterruptResult,
    ServerEvent,
    SessionOpen,
    TurnRequest,
    __version__,
)

from .call import COOKIE, COOKIE_HEADER, TOKEN_HEADER, Health, Ticket
from .conversations import CURSOR, MAX_LISTED, ConversationChange, Conversations, Messages, SessionToken

Schema = dict[str, Any]

BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
REF = "#/components/schemas/{name}"


def schemas_of(types: Iterable[Any]) -> tuple[list[Schema], dict[str, Schema]]:
    """Return the schemas of types, and the definitions they refer to, by name."""
    wanted, parts = msgspec.json.schema_components(tuple(types), ref_template=REF)
    for part in parts.values():
        # The first line of a docstring is the description; the rest is for readers of the code.
        if "description" in part:
            part["description"] = part["description"].partition("\n")[0]
        for each in part.get("properties", {}).values():
            if each.get("contentEncoding") == "base64":
                each["pattern"] = BASE64
    return list(wanted), dict(sorted(parts.items()))


class Media(Enum):
    """A body that is not a struct."""

    TEXT = "text"
    DOCUMENT = "document"
    EVENTS = "events"
    RESULTS = "results"


class Answer(Struct, frozen=True):
    """One possible response.

    Args:
        status: The HTTP status.
        meaning: The case in which it is sent.
        body: A struct or another body; None for an empty one.
    """

    status: int
    meaning: str
    body: type[Struct] | Media | None


Security = tuple[tuple[str, ...], ...]
OPEN: Security = ()
CLIENT: Security = (("bearer",), ())
"""A bearer token, or nothing on servers without authentication."""
SESSION: Security = (("session", "bearer"), ("session",), ("viewer",))

OWN: Security = (("bearer",), ("session",))
"""The principal of the session; its token on servers without authentication."""


class Route(Struct, frozen=True):
    """One method of one path.

    Args:
        path: The path.
        method: In lower case.
        name: The operation's name in generated clients.
        summary: Summary of the operation.
        answers: Possible responses.
        body: Type of the request's body, a struct or a union of structs; None for no body.
        parameters: Names of the parameters.
        security: Accepted security requirements (OR of ANDs).
    """

    path: str
    method: str
    name: str
    summary: str
    answers: tuple[Answer, ...]
    body: Any = None
    parameters: tuple[str, ...] = ()
    security: Security = OPEN


def _refused(*statuses: int) -> tuple[Answer, ...]:
    return tuple(Answer(status, _MEANINGS[status], ErrorEvent) for status in statuses)


_MEANINGS = {
    400: "The body is not JSON.",
    401: "The bearer token or the session's token is missing or wrong.",
    403: "Pages of this origin may not connect.",
    404: "No such session, or its token is wrong.",
    408: "The body was not complete in time.",
    409: "The session is in a state that does not allow this.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "A field is missing, of the wrong type, or out of bounds.",
    429: "Too many requests, or too many from one address.",
    500: "The server failed.",
    503: "The server is full or shutting down.",
}
_LET_IN = (401, 403, 429, 500, 503)
_BODY = (400, 408, 413, 415, 422)

_DRIVEN = Answer(200, "Events, until the turn ends or the connection is lost.", Media.EVENTS)
_DOCUMENT = (Answer(200, "The document.", Media.DOCUMENT),)

ROUTES = (
    Route(
        "/v1/turns", "post", "startTurn", "Request a turn and stream its events until it ends.",
        (_DRIVEN, *_refused(*_LET_IN, *_BODY, 404)), TurnRequest, ("Last-Event-ID", COOKIE_HEADER), CLIENT,
    ),
    Route(
        "/v1/batch", "post", "answerBatch",
        "Answer many inputs, each in its own session; streamed results come in order of completion.",
        (Answer(200, "One result for each input.", Media.RESULTS), *_refused(*_LET_IN, *_BODY)),
        BatchRequest, (), CLIENT,
    ),
    Route(
        "/v1/sessions", "post", "openSession",
        "Drive a session over an event stream; events to it are posted to `events`.",
        (_DRIVEN, *_refused(*_LET_IN, *_BODY, 404)), SessionOpen, ("Last-Event-ID", COOKIE_HEADER), CLIENT,
    ),
    Route(
        "/v1/sessions", "get", "listSessions", "List the client's own conversations, the last used first.",
        (Answer(200, "The conversations.", Conversations), *_refused(*_LET_IN, 404, 422)),
        None, ("limit", "before"), (("bearer",),),
    ),
    Route(
        "/v1/sessions/{session_id}/messages", "get", "listMessages",
        "Read the messages of an own conversation.",
        (Answer(200, "The messages.", Messages), *_refused(*_LET_IN, 404)),
        None, ("session_id",), OWN,
    ),
    Route(
        "/v1/sessions/{session_id}/token", "post", "issueSessionToken",
        "Return a token that resumes an own conversation, such as one of another device.",
        (Answer(200, "The token, and the user's inputs.", SessionToken), *_refused(*_LET_IN, 404)),
        None, ("session_id",), (("bearer",),),
    ),
    Route(
        "/v1/sessions/{session_id}", "patch", "renameSession", "Name an own conversation.",
        (Answer(204, "Named.", None), *_refused(*_LET_IN, *_BODY, 404)),
        ConversationChange, ("session_id",), OWN,
    ),
    Route(
        "/v1/sessions/{session_id}", "delete", "deleteSession", "Forget an own conversation for good.",
        (Answer(204, "Forgotten.", None), *_refused(*_LET_IN, 404)), None, ("session_id",), OWN,
    ),
    Route(
        "/v1/sessions/{session_id}/events", "get", "followSession",
        "Follow a session without driving it.",
        (
            Answer(200, "Events after the cursor, or after a snapshot.", Media.EVENTS),
            *_refused(*_LET_IN, 404, 422),
        ),
        None, ("session_id", "Last-Event-ID", "from"), SESSION,
    ),
    Route(
        "/v1/sessions/{session_id}/events", "post", "sendEvent",
        "Send an event to a session that an event stream drives; answers, errors included, come on the "
        "stream.",
        (Answer(202, "Accepted.", None), *_refused(*_LET_IN, *_BODY, 404, 409)),
        ClientEvent, ("session_id",), SESSION,
    ),
    Route(
        "/v1/sessions/{session_id}/interrupt", "post", "interruptTurn",
        "Interrupt a turn, from any connection.",
        (
            Answer(200, "The result of the interrupt.", InterruptResult),
            *_refused(*_LET_IN, *_BODY, 404, 409),
        ),
        Interrupt, ("session_id",), SESSION,
    ),
    Route(
        "/v1/tickets", "post", "issueTicket",
        "Issue a ticket for a browser, in exchange for a bearer token. A ticket is valid once.",
        (Answer(201, "The ticket.", Ticket), *_refused(401, 403, 429, 503)), security=(("bearer",),),
    ),
    Route(
        "/healthz", "get", "getHealth", "Liveness probe", (Answer(200, "Alive", Health),)
    ),
    Route(
        "/readyz", "get", "getReadiness", "Readiness probe",
        (
            Answer(200, "Ready", Health),
            Answer(503, "Draining or full: no new clients are accepted", Health),
        ),
    ),
    Route(
        "/metrics", "get", "getMetrics", "Metrics for Prometheus.",
        (
            Answer(200, "All metrics.", Media.TEXT),
            Answer(404, "Metrics are not served.", Media.TEXT),
            *_refused(401, 403, 429, 503),
        ),
        security=CLIENT,
    ),
    Route("/v1/openapi.json", "get", "getOpenAPI", "OpenAPI document of the HTTP side.", _DOCUMENT),
    Route("/v1/asyncapi.json", "get", "getAsyncAPI", "AsyncAPI document of the WebSocket.", _DOCUMENT),
)  # fmt: skip


_JSON = "application/json"

_CLOSE: Schema = {
    "description": "The content of a close frame on a WebSocket.",
    "type": "object",
    "properties": {
        "number": {"type": "integer"},
        "name": {"type": "string"},
        "reason": {"type": "string"},
        "action": {"enum": [action.value for action in Action]},
    },
    "required": ["number", "name", "reason", "action"],
}

_SSE: Schema = {
    "description": "One event of the stream. `close`, with its reason, is the last one.",
    "type": "object",
    "properties": {
        "event": {"type": "string", "description": "The `type` of the event, or `close`."},
        "id": {"type": "string", "description": "The cursor after this event, for `Last-Event-ID`."},
        "data": {
            "type": "string",
            "contentMediaType": _JSON,
            "contentSchema": {"anyOf": [{"$ref": "#/components/schemas/ServerEvent"}, _CLOSE]},
        },
    },
    "required": ["event", "data"],
}
"""OpenAPI 3.2 has `itemSchema` for this; validators of 3.1 accept this form."""

_RESULT: Schema = {
    "description": "One result of a batch.",
    "type": "object",
    "properties": {
        "event": {"const": "batch.result"},
        "data": {
            "type": "string",
            "contentMediaType": _JSON,
            "contentSchema": {"$ref": "#/components/schemas/BatchResult"},
        },
    },
    "required": ["event", "data"],
}

_MEDIA: dict[Media, dict[str, Schema]] = {
    Media.TEXT: {"text/plain": {"type": "string"}},
    Media.DOCUMENT: {_JSON: {"type": "object"}},
    Media.EVENTS: {"text/event-stream": _SSE},
    Media.RESULTS: {
        _JSON: {"$ref": "#/components/schemas/BatchAnswer"},
        "text/event-stream": _RESULT,
        "application/x-ndjson": {"$ref": "#/components/schemas/BatchResult"},
    },
}

_UNIONS: dict[Any, str] = {ClientEvent: "ClientEvent", ServerEvent: "ServerEvent"}

_PARAMETERS: dict[str, Schema] = {
    "session_id": {
        "name": "session_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1},
    },
    "Last-Event-ID": {
        "name": "Last-Event-ID", "in": "header", "description": "The id of the last event received.",
        "schema": {"type": "string", "pattern": r"^[A-Za-z0-9_-]{1,64}\.[0-9]{1,15}$"},
        "example": "5b021235.17",
    },
    COOKIE_HEADER: {
        "name": COOKIE_HEADER, "in": "header",
        "description": "Asks for a cookie; the path of the server, as its page sees it.",
        "schema": {"type": "string", "pattern": r"^(/|(/[A-Za-z0-9._~%-]{1,128}){1,16}/?)$"},
        "example": "/",
    },
    "limit": {
        "name": "limit", "in": "query", "description": "Maximum number of conversations.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LISTED, "default": MAX_LISTED},
    },
    "before": {
        "name": "before", "in": "query",
        "description": "Only conversations that follow: `before` of an earlier answer.",
        "schema": {"type": "string", "pattern": f"^{CURSOR}$"},
    },
    "from": {
        "name": "from", "in": "query", "description": "Start of the stream without `Last-Event-ID`.",
        "schema": {"enum": ["start", "now"], "default": "start"},
    },
}  # fmt: skip

_SECURITY = {
    "bearer": {
        "type": "http", "scheme": "bearer", "description": "Credential, on servers with authentication.",
    },
    "session": {
        "type": "apiKey", "in": "header", "name": TOKEN_HEADER, "description": "Secret of the session.",
    },
    "viewer": {
        "type": "apiKey", "in": "cookie", "name": COOKIE,
        "description": "Cookie that follows and interrupts the session.",
    },
}  # fmt: skip


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "bargein: the HTTP side",
            "version": __version__,
            "description": "HTTP side of the server. asyncapi.json describes the WebSocket at /v1/session.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": _SECURITY},
    }


def _schemas() -> dict[str, Schema]:
    types: dict[Any, None] = dict.fromkeys((ClientEvent, ServerEvent, ErrorEvent, BatchAnswer))
    for route in ROUTES:
        if route.body is not None:
            types[route.body] = None
        types.update((answer.body, None) for answer in route.answers if not isinstance(answer.body, Media))
    types.pop(None, None)
    wanted, definitions = schemas_of(types)
    unions = {_UNIONS[kind]: schema for kind, schema in zip(types, wanted, strict=True) if kind in _UNIONS}
    return dict(sorted({**unions, **definitions}.items()))


def _operation(route: Route) -> Schema:
    described: Schema = {
        "operationId": route.name,
        "summary": route.summary,
        "security": [{scheme: [] for scheme in schemes} for schemes in route.security],
        "responses": {str(answer.status): _response(answer) for answer in route.answers},
    }
    if route.parameters:
        described["parameters"] = [_PARAMETERS[name] for name in route.parameters]
    if route.body is not None:
        described["requestBody"] = {"required": True, "content": {_JSON: {"schema": _body(route.body)}}}
    return described


def _response(answer: Answer) -> Schema:
    described: Schema = {"description": answer.meaning}
    if isinstance(answer.body, Media):
        described["content"] = {kind: {"schema": schema} for kind, schema in _MEDIA[answer.body].items()}
    elif answer.body is not None:
        described["content"] = {_JSON: {"schema": _reference(answer.body)}}
    return described


def _body(kind: Any) -> Schema:
    if kind in _UNIONS or not kind.__struct_config__.tag:
        return _reference(kind)
    # The path determines the kind of the body, so its `type` may be absent.
    _, definitions = schemas_of([kind])
    schema = dict(definitions[kind.__name__])
    schema["required"] = [name for name in schema["required"] if name != kind.__struct_config__.tag_field]
    return schema


def _reference(kind: Any) -> Schema:
    return {"$ref": REF.format(name=_UNIONS.get(kind) or kind.__name__)}
