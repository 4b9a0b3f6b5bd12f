"""AsyncAPI 3.0 document of the WebSocket."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from bargein_protocol import CODECS, ClientEvent, ServerEvent, __version__

from .openapi import schemas_of
from .operations import Schema

SESSION_PATH = "/v1/session"


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document."""
    up, down = get_args(ClientEvent), get_args(ServerEvent)
    _, definitions = schemas_of([*up, *down])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "bargein: the wire protocol",
            "version": __version__,
            "description": "One session with an agent that can be interrupted. The README is normative.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {"session": _channel([*up, *down])},
        "operations": {
            "receive": _operation("receive", "Events from a client.", up),
            "send": _operation("send", "Events from the server.", down),
        },
        "components": {
            "messages": {struct.__name__: _message(struct, definitions) for struct in (*up, *down)},
            "schemas": _without_discriminators(definitions),
        },
    }


def _channel(events: list[type[msgspec.Struct]]) -> Schema:
    return {
        "address": SESSION_PATH,
        "description": "A WebSocket. Its subprotocol names the codec: " + ", ".join(CODECS) + ".",
        "messages": {event.__name__: {"$ref": f"#/components/messages/{event.__name__}"} for event in events},
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _operation(action: str, summary: str, events: tuple[type[msgspec.Struct], ...]) -> Schema:
    return {
        "action": action,
        "summary": summary,
        "channel": {"$ref": "#/channels/session"},
        "messages": [{"$ref": f"#/channels/session/messages/{event.__name__}"} for event in events],
    }


def _message(event: type[msgspec.Struct], definitions: dict[str, Schema]) -> Schema:
    return {
        "name": str(event.__struct_config__.tag),
        "summary": definitions[event.__name__].get("description", ""),
        "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
    }


def _without_discriminators(schema: Any) -> Any:
    """Return a schema without `discriminator`, an object in OpenAPI only."""
    if isinstance(schema, dict):
        return {key: _without_discriminators(part) for key, part in schema.items() if key != "discriminator"}
    if isinstance(schema, list):
        return [_without_discriminators(part) for part in schema]
    return schema
