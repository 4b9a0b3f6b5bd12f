"""`POST /v1/tickets`: exchange a bearer token for a ticket."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from ..guard.admission import Admission, Refused
from .responses import Ticket, denial, json_answer


async def issue_ticket(request: Request, admission: Admission) -> Response:
    """Answer 201 with a ticket, or 401."""
    try:
        principal = admission.bearer(request.headers)
    except Refused as refused:
        return denial(refused, admission)
    if principal is None:
        return denial(Refused(401, "a bearer token is needed"), admission)
    ticket = admission.tickets.issue(principal, asyncio.get_running_loop().time())
    return json_answer(Ticket(ticket, int(admission.tickets.lifetime_s * 1000)), 201)
