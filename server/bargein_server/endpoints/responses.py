"""Answers over HTTP: events of the protocol and other bodies as JSON, with the status that says the same."""

from __future__ import annotations

from msgspec import Struct, json
from starlette.responses import Response

from bargein_protocol import Code, ErrorEvent, errors

from ..guard.admission import Admission, Refused

PROTOCOL_HEADER = "Bargein-Protocol"
"""On every answer of ours, so that a client can tell it from one that a proxy gave."""

HEADERS = {"Cache-Control": "no-store", PROTOCOL_HEADER: "1"}

_CODES: dict[int, Code] = {
    400: errors.BAD_FRAME,
    401: errors.UNAUTHORIZED,
    403: errors.FORBIDDEN,
    404: errors.SESSION_LOST,
    408: errors.OPEN_TIMEOUT,
    409: errors.NOT_RUNNING,
    413: errors.TOO_BIG,
    415: errors.WRONG_CODEC,
    422: errors.BAD_EVENT,
    429: errors.FLOODED,
    500: errors.INTERNAL,
    503: errors.OVERLOADED,
}
_RETRYABLE = (408, 429, 500, 503)


class Ticket(Struct, frozen=True):
    """A ticket for a browser.

    Args:
        ticket: The secret: an item of the subprotocol list, or `auth` in the first frame.
        expires_in_ms: How long it is good.
    """

    ticket: str
    expires_in_ms: int


class Health(Struct, frozen=True):
    """Whether the server does what it is asked.

    Args:
        status: `ok`; or `draining` while it stops and takes nobody new.
    """

    status: str


def json_answer(body: Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an event, or another body, as an answer."""
    return Response(json.encode(body), status, {**HEADERS, **(headers or {})}, "application/json")


def denial(refused: Refused, admission: Admission) -> Response:
    """Return the answer to a request that was refused: an `error` of the protocol. The door counts it."""
    admission.refusals[refused.status] += 1
    headers = {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    event = ErrorEvent(
        code=_CODES[refused.status].name, message=refused.reason, retryable=refused.status in _RETRYABLE
    )
    return json_answer(event, refused.status, headers)
