"""Sends traces away: an SDK of OpenTelemetry with an exporter, for a process that has none.

Everything is set by OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME
and OTEL_TRACES_SAMPLER.
"""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

FLUSH_MS = 2000


def export_traces() -> Callable[[], object]:
    """Export the traces of this process with OTLP over HTTP, unless someone has set that up before.

    Returns:
        Sends what waits, within two seconds.
    """
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider):
        resource = Resource.create()
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "bargein"}))
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    if isinstance(provider, TracerProvider):
        sdk = provider
        return lambda: sdk.force_flush(FLUSH_MS)
    return lambda: None
