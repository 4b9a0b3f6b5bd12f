"""Hooks of schemathesis, which loads this file into its own process.

A number such as 7.0 is an integer by JSON Schema, and none by the protocol, which no schema can say. And
a made-up session is never there, so BARGEIN_SESSION names one that is.
"""

from __future__ import annotations

import os
from typing import Any

import schemathesis


def whole(value: Any) -> Any:
    """Return a value whose numbers are integers where they can be."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: whole(part) for key, part in value.items()}
    if isinstance(value, list):
        return [whole(part) for part in value]
    return value


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Change a body before it is sent."""
    return whole(body)


@schemathesis.hook
def map_path_parameters(context: Any, parameters: Any) -> Any:
    """Name the session that is there."""
    session = os.environ.get("BARGEIN_SESSION")
    if session is not None and parameters and "session_id" in parameters:
        return {**parameters, "session_id": session}
    return parameters


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Leave out a cursor that is made up without a look at its pattern, and the end of the session."""
    if case.headers and case.headers.get("Last-Event-ID") == "0":
        del case.headers["Last-Event-ID"]
    if isinstance(case.body, dict) and case.body.get("type") == "session.close":
        case.body = {"type": "ping", "id": "p"}
