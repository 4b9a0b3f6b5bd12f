"""`/healthz`, `/readyz` and `/metrics`, for orchestrators and Prometheus.

The first two need no authentication and change nothing. The third is served when the setting `metrics`
is on, to clients that may connect.
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
    """Answer 200: the process and its event loop run."""
    return json_answer(Health("ok"))


def readiness(draining: bool) -> Response:
    """Answer 200 when new clients are accepted, 503 when not."""
    return json_answer(Health("draining"), 503) if draining else json_answer(Health("ok"))


def show_metrics(request: Request, admission: Admission, metrics: Metrics) -> Response:
    """Answer 200 with all metrics, or 401 without a token where one is needed."""
    try:
        admission.authenticate(request.headers)
    except Refused as refused:
        return denial(refused, admission)
    return Response(metrics.text(), 200, {**HEADERS, "Content-Type": metrics.content_type})
