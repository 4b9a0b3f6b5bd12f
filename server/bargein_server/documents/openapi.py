"""The HTTP side, as OpenAPI 3.1 describes one."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from bargein_protocol import __version__

from ..endpoints.answers import Health, Refusal, Ticket
from .schemas import Schema, schemas_of

JSON = "application/json"

_REFUSED = {401: "The bearer token is missing or wrong."}


class _Route(Struct, frozen=True):
    """One method of one path.

    Args:
        summary: What it does.
        answers: What it answers, by status: a description, and a struct, `object` or `text/plain`.
        token: Whether it is for who may connect.
    """

    path: str
    method: str
    name: str
    summary: str
    answers: dict[int, tuple[str, type[Struct] | str]]
    token: bool = False


ROUTES = (
    _Route(
        "/v1/tickets", "post", "issueTicket",
        "A ticket for a browser, in exchange for a bearer token. It is good once, and not for long.",
        {201: ("The ticket.", Ticket), 401: (_REFUSED[401], Refusal)},
        token=True,
    ),
    _Route("/healthz", "get", "getHealth", "Whether the process lives.", {200: ("It does.", Health)}),
    _Route(
        "/readyz", "get", "getReadiness", "Whether new clients may come.",
        {200: ("They may.", Health), 503: ("They may not: the server drains.", Health)},
    ),
    _Route(
        "/metrics", "get", "getMetrics", "Metrics for Prometheus.",
        {
            200: ("All metrics, as text.", "text/plain"),
            401: (_REFUSED[401], Refusal),
            404: ("Metrics are not served.", "text/plain"),
        },
        token=True,
    ),
    _Route("/v1/openapi.json", "get", "getOpenAPI", "This document.", {200: ("The document.", "object")}),
    _Route(
        "/v1/asyncapi.json", "get", "getAsyncAPI", "What the WebSocket speaks.",
        {200: ("The document.", "object")},
    ),
)  # fmt: skip


def openapi() -> dict[str, Any]:
    """Return the document."""
    structs = {
        answer for route in ROUTES for _, answer in route.answers.values() if not isinstance(answer, str)
    }
    _, definitions = schemas_of(sorted(structs, key=lambda struct: struct.__name__))
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "bargein: the HTTP side",
            "version": __version__,
            "description": "Beside the WebSocket at /v1/session, which asyncapi.json describes.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": definitions,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: _Route) -> Schema:
    return {
        "operationId": route.name,
        "summary": route.summary,
        "security": [{"bearer": []}] if route.token else [],
        "responses": {
            str(status): {"description": description, "content": _content(answer)}
            for status, (description, answer) in route.answers.items()
        },
    }


def _content(answer: type[Struct] | str) -> Schema:
    if answer == "object":
        return {JSON: {"schema": {"type": "object"}}}
    if isinstance(answer, str):
        return {answer: {"schema": {"type": "string"}}}
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{answer.__name__}"}}}
