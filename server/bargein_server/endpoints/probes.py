"""Probes of orchestrators, and metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..guard.admission import Admission, Refused
from ..hosting.hearing.ears import Ears
from ..hosting.registry import SessionRegistry
from .access import access_request
from .call import HEADERS, Health, address_of, denial, json_answer

if TYPE_CHECKING:
    from ..telemetry.metrics import Metrics

HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"
METRICS_PATH = "/metrics"


def gauges(sessions: SessionRegistry) -> dict[str, float]:
    return {
        "bargein_abandoned_tasks": len(sessions.abandoned),
        "bargein_background_tasks": len(sessions.background),
        "bargein_threads_busy": sessions.threads.busy,
        "bargein_threads_waiting": sessions.threads.waiting,
        "bargein_slots_taken": sessions.turn_limiter.taken,
        "bargein_slots_waiting": sessions.turn_limiter.waiting,
        "bargein_kept_bytes": sessions.kept_bytes,
        "bargein_event_streams": len(sessions.streams),
        "bargein_draining": sessions.draining,
        **(sessions.keeper.gauges() if sessions.keeper is not None else {}),
        **(sessions.elsewhere.gauges() if sessions.elsewhere is not None else {}),
        **_voice_gauges(sessions.ears),
    }


def _voice_gauges(ears: Ears | None) -> dict[str, float]:
    if ears is None:
        return {}
    return {
        "bargein_listeners": ears.listeners,
        "bargein_detector_behind_seconds": ears.thread.behind_s,
        "bargein_detector_frames_dropped": ears.thread.dropped_frames,
        "bargein_recognitions_running": ears.queue.running,
        "bargein_recognitions_waiting": ears.queue.waiting,
        "bargein_echoes": ears.echoes,
    }


def probes(
    sessions: Callable[[], SessionRegistry], admission: Admission, metrics: Metrics | None
) -> list[Route]:
    """Return the routes for orchestrators and Prometheus.

    `/healthz` and `/readyz` need no authentication and change nothing. `/metrics` is served when the
    setting `metrics` is on, to clients that may connect.
    """

    async def healthz(request: Request) -> Response:
        return json_answer(Health("ok"))

    async def readyz(request: Request) -> Response:
        keeper = sessions().keeper
        store = keeper.health.state.value if keeper is not None else None
        if sessions().draining:
            return json_answer(Health("draining", store), 503)
        if sessions().full or admission.connections.is_full():
            return json_answer(Health("full", store), 503)
        # A server whose store fails serves its clients, so it stays ready.
        return json_answer(Health("ok", store))

    async def scrape(request: Request) -> Response:
        assert metrics is not None
        try:
            admission.check_host(
                request.headers, request.url.scheme, (request.scope.get("server") or ("",))[0]
            )
            await admission.authenticate(access_request(request), address_of(request.client))
        except Refused as refused:
            return denial(refused, admission)
        text, elsewhere = metrics.text(), sessions().elsewhere
        if elsewhere is not None:
            text = await elsewhere.metrics(text)
        return Response(text, 200, {**HEADERS, "Content-Type": metrics.content_type})

    routes = [Route(HEALTH_PATH, healthz), Route(READY_PATH, readyz)]
    return routes if metrics is None else [*routes, Route(METRICS_PATH, scrape)]
