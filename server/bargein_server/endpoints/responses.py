"""HTTP responses: events of the protocol and other bodies as JSON."""

from __future__ import annotations

from msgspec import Struct, json
from starlette.responses import Response

from bargein_protocol import Code, ErrorEvent, errors

from ..guard.admission import Admission, Refused

PROTOCOL_HEADER = "Bargein-Protocol"
"""Header of every response; a client can tell a response of a proxy by its absence."""

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
        expires_in_ms: Milliseconds for which it is valid.
    """

    ticket: str
    expires_in_ms: int


class Health(Struct, frozen=True):
    """State of the server.

    Args:
        status: `ok`, or `draining` while the server shuts down and accepts no new clients.
    """

    status: str


def json_answer(body: Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with an event or another body as JSON."""
    return Response(json.encode(body), status, {**HEADERS, **(headers or {})}, "application/json")


def denial(refused: Refused, admission: Admission) -> Response:
    """Count a refused request and return the response, an `error` event."""
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
