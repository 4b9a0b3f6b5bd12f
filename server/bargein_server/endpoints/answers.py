"""What is answered over HTTP: the bodies, and the headers that all answers have."""

from __future__ import annotations

from msgspec import Struct, json
from starlette.responses import Response

from ..guard.door import Refused

NO_STORE = {"Cache-Control": "no-store"}


class Refusal(Struct, frozen=True):
    """Why a request was refused.

    Args:
        error: For people.
    """

    error: str


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


def answer(body: Struct, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer with this body as JSON."""
    return Response(json.encode(body), status, {**NO_STORE, **(headers or {})}, "application/json")


def denial(refused: Refused) -> Response:
    """Return the answer to a request that was refused."""
    headers = {}
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    return answer(Refusal(refused.reason), refused.status, headers)
