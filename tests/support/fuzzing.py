"""Hooks of schemathesis, which loads this file into its own process.

A number such as 7.0 is an integer by JSON Schema, and none by the protocol, which no schema can say. A
made-up session is never there: BARGEIN_SESSION names one that is, BARGEIN_SESSION_TOKEN is its secret.
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
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Drop headers that break their patterns; use the session that exists."""
    for name in ("Last-Event-ID", "Bargein-Cookie"):
        if case.headers and case.headers.get(name) == "0":
            del case.headers[name]
    session = os.environ.get("BARGEIN_SESSION")
    if session is not None:
        case.path_parameters["session_id"] = session
        case.headers["Bargein-Session-Token"] = os.environ["BARGEIN_SESSION_TOKEN"]
        if isinstance(case.body, dict) and case.body.get("type") == "session.close":
            case.body = {"type": "ping", "id": "p"}
