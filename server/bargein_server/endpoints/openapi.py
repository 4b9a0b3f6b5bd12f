"""OpenAPI 3.1 document of the HTTP side, made from its routes and structs.

`scripts/schema.py` writes it to `protocol/`, and the server serves it; a test compares the routes with the
application's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from bargein_protocol import Action, BatchAnswer, ClientEvent, ErrorEvent, ServerEvent, __version__

from .call import COOKIE, COOKIE_HEADER, TOKEN_HEADER
from .conversations import CURSOR, MAX_LISTED
from .operations import ROUTES, Answer, Content, Media, Route, Schema

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
    "model": {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
    "chat_id": {
        "name": "chat_id", "in": "path", "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 512},
    },
    "messageId": {
        "name": "messageId", "in": "query", "description": "The turn to interrupt; the last one without it.",
        "schema": {"type": "string"},
    },
    "version": {
        "name": "version", "in": "query", "description": "`5` for a client without approvals.",
        "schema": {"type": "string"},
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


def openapi(more: Sequence[Route] = ()) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        more: Operations beside those of every server.
    """
    paths: dict[str, Any] = {}
    routes = (*ROUTES, *more)
    for route in routes:
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
        "components": {"schemas": _schemas(routes), "securitySchemes": _SECURITY},
    }


def _schemas(routes: Sequence[Route]) -> dict[str, Schema]:
    types: dict[Any, None] = dict.fromkeys((ClientEvent, ServerEvent, ErrorEvent, BatchAnswer))
    for route in routes:
        if route.body is not None:
            types[route.body] = None
        bodies = (answer.body for answer in route.answers)
        types.update((body, None) for body in bodies if not isinstance(body, Media | Content))
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
    if isinstance(answer.body, Media | Content):
        schemas = _MEDIA[answer.body] if isinstance(answer.body, Media) else answer.body.schemas
        described["content"] = {kind: {"schema": schema} for kind, schema in schemas.items()}
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
