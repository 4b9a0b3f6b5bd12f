"""Export of traces, for a process without a tracer provider.

All options are environment variables of OpenTelemetry, such as OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME
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
    """Export the traces of this process with OTLP over HTTP.

    A tracer provider that the process has already is left as it is.

    Returns:
        Sends the finished spans that wait, within two seconds.
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
