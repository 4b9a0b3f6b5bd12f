"""`/healthz`, `/readyz` and `/metrics`: what orchestrators and Prometheus ask.

The first two need no authentication and touch nothing. The third is there when it was asked for, and
for whoever may connect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, json
from starlette.requests import Request
from starlette.responses import Response

from ..guard.door import Door, Refused
from .answers import HEADERS, denial

if TYPE_CHECKING:
    from ..telemetry.metrics import Metrics


class Health(Struct, frozen=True):
    """Whether the server does what it is asked.

    Args:
        status: `ok`; or `draining` while it stops and takes nobody new.
    """

    status: str


_OK = json.encode(Health("ok"))
_DRAINING = json.encode(Health("draining"))


def health() -> Response:
    """Answer 200: the process lives, and its event loop turns."""
    return Response(_OK, 200, HEADERS, "application/json")


def readiness(draining: bool) -> Response:
    """Answer 200 when new clients may come, 503 when not."""
    if draining:
        return Response(_DRAINING, 503, HEADERS, "application/json")
    return Response(_OK, 200, HEADERS, "application/json")


def show_metrics(request: Request, door: Door, metrics: Metrics) -> Response:
    """Answer 200 with all metrics; 401 when clients need a token and this one has none."""
    try:
        door.authenticate(request.headers)
    except Refused as refused:
        return denial(refused)
    return Response(metrics.text(), 200, {**HEADERS, "Content-Type": metrics.content_type})
