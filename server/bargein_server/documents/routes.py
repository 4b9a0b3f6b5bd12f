"""The routes of the HTTP side: what each takes and what it answers. A test holds them against the app."""

from __future__ import annotations

from enum import Enum
from typing import Any

from msgspec import Struct

from bargein_protocol import (
    BatchRequest,
    ClientEvent,
    ErrorEvent,
    Interrupt,
    InterruptResult,
    SessionOpen,
    TurnRequest,
)

from ..endpoints.responses import Health, Ticket


class Media(Enum):
    """A body that is no struct."""

    TEXT = "text"
    DOCUMENT = "document"
    EVENTS = "events"
    RESULTS = "results"


class Answer(Struct, frozen=True):
    """What may be answered.

    Args:
        status: The status.
        meaning: When.
        body: A struct, or another body; None for none.
    """

    status: int
    meaning: str
    body: type[Struct] | Media | None


Security = tuple[tuple[str, ...], ...]
OPEN: Security = ()
CLIENT: Security = (("bearer",), ())
"""A bearer token, which servers without authentication do not ask for."""
SESSION: Security = (("session", "bearer"), ("session",), ("badge",))


class Route(Struct, frozen=True):
    """One method of one path.

    Args:
        path: The path.
        method: In lower case.
        name: What generated clients call it.
        summary: What it does.
        answers: What it answers.
        body: What it takes: a struct, or a union of them; None for nothing.
        parameters: Names of parameters.
        security: What proves that one may: one of these, each of all its parts.
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
    401: "The bearer token, or the session's, is missing or wrong.",
    403: "Pages of this origin may not connect.",
    404: "No such session, or its token is wrong.",
    408: "The body did not come in time.",
    409: "The session cannot do that.",
    413: "The body is too large.",
    415: "The body is not application/json.",
    422: "A field is missing, of the wrong type, or out of bounds.",
    429: "Too many requests, or too many from one address.",
    500: "The server failed.",
    503: "The server is full, or shuts down.",
}
_LET_IN = (401, 403, 429, 500, 503)
_BODY = (400, 408, 413, 415, 422)

_DRIVEN = Answer(200, "The events, until the turn has ended or the line is lost.", Media.EVENTS)
_DOCUMENT = (Answer(200, "The document.", Media.DOCUMENT),)

ROUTES = (
    Route(
        "/v1/turns", "post", "startTurn", "Ask for a turn, and stream its events until it has ended.",
        (_DRIVEN, *_refused(*_LET_IN, *_BODY, 404)), TurnRequest, ("Last-Event-ID",), CLIENT,
    ),
    Route(
        "/v1/batch", "post", "answerBatch",
        "Answer many inputs, each in a session of its own: in order, or as they finish in a stream.",
        (Answer(200, "One result for each input.", Media.RESULTS), *_refused(*_LET_IN, *_BODY)),
        BatchRequest, (), CLIENT,
    ),
    Route(
        "/v1/sessions", "post", "openSession", "Drive a session; what goes up is posted to its `events`.",
        (_DRIVEN, *_refused(*_LET_IN, *_BODY, 404)), SessionOpen, ("Last-Event-ID",), CLIENT,
    ),
    Route(
        "/v1/sessions/{session_id}/events", "get", "followSession",
        "Read a session that somebody else drives, or the driver's own.",
        (
            Answer(200, "The events, from the cursor or a snapshot on.", Media.EVENTS),
            *_refused(*_LET_IN, 404, 422),
        ),
        None, ("session_id", "Last-Event-ID", "from"), SESSION,
    ),
    Route(
        "/v1/sessions/{session_id}/events", "post", "sendEvent",
        "Send an event to a session that an event stream drives; what it is answered comes down on the "
        "stream, also when it is illegal.",
        (Answer(202, "It was taken.", None), *_refused(*_LET_IN, *_BODY, 404, 409)),
        ClientEvent, ("session_id",), SESSION,
    ),
    Route(
        "/v1/sessions/{session_id}/interrupt", "post", "interruptTurn",
        "End a turn now, whoever drives the session.",
        (
            Answer(200, "The one answer to the interrupt.", InterruptResult),
            *_refused(*_LET_IN, *_BODY, 404, 409),
        ),
        Interrupt, ("session_id",), SESSION,
    ),
    Route(
        "/v1/tickets", "post", "issueTicket",
        "A ticket for a browser, in exchange for a bearer token. It is good once, and not for long.",
        (Answer(201, "The ticket.", Ticket), *_refused(401)), security=(("bearer",),),
    ),
    Route(
        "/healthz", "get", "getHealth", "Whether the process lives.", (Answer(200, "It does.", Health),)
    ),
    Route(
        "/readyz", "get", "getReadiness", "Whether new clients may come.",
        (
            Answer(200, "They may.", Health),
            Answer(503, "They may not: the server drains.", Health),
        ),
    ),
    Route(
        "/metrics", "get", "getMetrics", "Metrics for Prometheus.",
        (
            Answer(200, "All metrics.", Media.TEXT),
            Answer(404, "Metrics are not served.", Media.TEXT),
            *_refused(401),
        ),
        security=CLIENT,
    ),
    Route("/v1/openapi.json", "get", "getOpenAPI", "This document.", _DOCUMENT),
    Route("/v1/asyncapi.json", "get", "getAsyncAPI", "What the WebSocket speaks.", _DOCUMENT),
)  # fmt: skip
