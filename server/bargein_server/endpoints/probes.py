"""`/healthz`, `/readyz` and `/metrics`: what orchestrators and Prometheus ask.

The first two need no authentication and touch nothing. The third is there when it was asked for, and
for whoever may connect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ..guard.admission import Admission, Refused
from .responses import HEADERS, Health, denial, json_answer

if TYPE_CHECKING:
    from ..telemetry.metrics import Metrics


def health() -> Response:
    """Answer 200: the process lives, and its event loop turns."""
    return json_answer(Health("ok"))


def readiness(draining: bool) -> Response:
    """Answer 200 when new clients may come, 503 when not."""
    return json_answer(Health("draining"), 503) if draining else json_answer(Health("ok"))


def show_metrics(request: Request, admission: Admission, metrics: Metrics) -> Response:
    """Answer 200 with all metrics; 401 when clients need a token and this one has none."""
    try:
        admission.authenticate(request.headers)
    except Refused as refused:
        return denial(refused, admission)
    return Response(metrics.text(), 200, {**HEADERS, "Content-Type": metrics.content_type})
