"""Operations of the HTTP side, from which the OpenAPI document is made."""

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

from .call import COOKIE_HEADER, Health, Ticket
from .conversations import ConversationChange, Conversations, Messages, SessionToken

Schema = dict[str, Any]


class Media(Enum):
    """A body that is not a struct."""

    TEXT = "text"
    DOCUMENT = "document"
    EVENTS = "events"
    RESULTS = "results"


class Content(Struct, frozen=True):
    """A body of which each media type has a schema of its own."""

    schemas: dict[str, Schema]


class Answer(Struct, frozen=True):
    """One possible response.

    Args:
        status: The HTTP status.
        meaning: The case in which it is sent.
        body: A struct or another body; None for an empty one.
    """

    status: int
    meaning: str
    body: type[Struct] | Media | Content | None


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


def refused(*statuses: int, body: type[Struct] = ErrorEvent) -> tuple[Answer, ...]:
    """Return the answers of refused requests, by their statuses."""
    return tuple(Answer(status, _MEANINGS[status], body) for status in statuses)


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
LET_IN = (401, 403, 429, 500, 503)
BODY = (400, 408, 413, 415, 422)

_DRIVEN = Answer(200, "Events, until the turn ends or the connection is lost.", Media.EVENTS)
_DOCUMENT = (Answer(200, "The document.", Media.DOCUMENT),)

ROUTES = (
    Route(
        "/v1/turns", "post", "startTurn", "Request a turn and stream its events until it ends.",
        (_DRIVEN, *refused(*LET_IN, *BODY, 404)), TurnRequest, ("Last-Event-ID", COOKIE_HEADER), CLIENT,
    ),
    Route(
        "/v1/batch", "post", "answerBatch",
        "Answer many inputs, each in its own session; streamed results come in order of completion.",
        (Answer(200, "One result for each input.", Media.RESULTS), *refused(*LET_IN, *BODY)),
        BatchRequest, (), CLIENT,
    ),
    Route(
        "/v1/sessions", "post", "openSession",
        "Drive a session over an event stream; events to it are posted to `events`.",
        (_DRIVEN, *refused(*LET_IN, *BODY, 404)), SessionOpen, ("Last-Event-ID", COOKIE_HEADER), CLIENT,
    ),
    Route(
        "/v1/sessions", "get", "listSessions", "List the client's own conversations, the last used first.",
        (Answer(200, "The conversations.", Conversations), *refused(*LET_IN, 404, 422)),
        None, ("limit", "before"), (("bearer",),),
    ),
    Route(
        "/v1/sessions/{session_id}/messages", "get", "listMessages",
        "Read the messages of an own conversation.",
        (Answer(200, "The messages.", Messages), *refused(*LET_IN, 404)),
        None, ("session_id",), OWN,
    ),
    Route(
        "/v1/sessions/{session_id}/token", "post", "issueSessionToken",
        "Return a token that resumes an own conversation, such as one of another device.",
        (Answer(200, "The token, and the user's inputs.", SessionToken), *refused(*LET_IN, 404)),
        None, ("session_id",), OWN,
    ),
    Route(
        "/v1/sessions/{session_id}", "patch", "renameSession", "Name an own conversation.",
        (Answer(204, "Named.", None), *refused(*LET_IN, *BODY, 404)),
        ConversationChange, ("session_id",), OWN,
    ),
    Route(
        "/v1/sessions/{session_id}", "delete", "deleteSession", "Forget an own conversation for good.",
        (
            Answer(204, "Forgotten.", None),
            Answer(202, "Forgotten here, and in the store as soon as it can be written.", None),
            *refused(*LET_IN, 404, 503),
        ),
        None, ("session_id",), OWN,
    ),
    Route(
        "/v1/sessions/{session_id}/events", "get", "followSession",
        "Follow a session without driving it.",
        (
            Answer(200, "Events after the cursor, or after a snapshot.", Media.EVENTS),
            *refused(*LET_IN, 404, 422),
        ),
        None, ("session_id", "Last-Event-ID", "from"), SESSION,
    ),
    Route(
        "/v1/sessions/{session_id}/events", "post", "sendEvent",
        "Send an event to a session that an event stream drives; answers, errors included, come on the "
        "stream.",
        (Answer(202, "Accepted.", None), *refused(*LET_IN, *BODY, 404, 409)),
        ClientEvent, ("session_id",), SESSION,
    ),
    Route(
        "/v1/sessions/{session_id}/interrupt", "post", "interruptTurn",
        "Interrupt a turn, from any connection.",
        (
            Answer(200, "The result of the interrupt.", InterruptResult),
            *refused(*LET_IN, *BODY, 404, 409),
        ),
        Interrupt, ("session_id",), SESSION,
    ),
    Route(
        "/v1/tickets", "post", "issueTicket",
        "Issue a ticket for a browser, in exchange for a bearer token. A ticket is valid once.",
        (Answer(201, "The ticket.", Ticket), *refused(401, 403, 429, 503)), security=(("bearer",),),
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
            *refused(401, 403, 429, 503),
        ),
        security=CLIENT,
    ),
    Route("/v1/openapi.json", "get", "getOpenAPI", "OpenAPI document of the HTTP side.", _DOCUMENT),
    Route("/v1/asyncapi.json", "get", "getAsyncAPI", "AsyncAPI document of the WebSocket.", _DOCUMENT),
)  # fmt: skip
