"""`POST /v1/tickets`: a ticket for a browser, in exchange for a bearer token."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..guard.door import Door, Refused

NO_STORE = {"Cache-Control": "no-store"}


async def issue_ticket(request: Request, door: Door) -> Response:
    """Answer 201 with a ticket, or 401."""
    try:
        principal = door.bearer(request.headers)
    except Refused as refused:
        return denial(refused)
    if principal is None:
        return denial(door.refusal(401, "a bearer token is needed"))
    ticket = door.tickets.issue(principal, asyncio.get_running_loop().time())
    expires = int(door.tickets.lifetime_s * 1000)
    return JSONResponse({"ticket": ticket, "expires_in_ms": expires}, 201, NO_STORE)


def denial(refused: Refused) -> Response:
    """Return the answer to a request that was refused."""
    headers = dict(NO_STORE)
    if refused.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refused.retry_after_s is not None:
        headers["Retry-After"] = str(refused.retry_after_s)
    return JSONResponse({"error": refused.reason}, refused.status, headers)
