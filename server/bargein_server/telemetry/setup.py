"""Set up sinks and the export of traces, and import only their packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..settings import Settings
from .logs import Logs
from .recorder import Sink, Telemetry

if TYPE_CHECKING:
    from .metrics import Metrics

FLUSH_MS = 2000

_EXTRAS = {"metrics": "metrics", "traces": "otel"}


class NotInstalled(ImportError):
    """A setting needs a package that is missing; the message names its extra."""

    def __init__(self, setting: str, error: ImportError) -> None:
        extra = _EXTRAS[setting]
        super().__init__(f'{setting} needs {error.name}: pip install "bargein[{extra}]"', name=error.name)


def set_up(
    settings: Settings,
    gauges: Callable[[], Mapping[str, float]],
    refusals: Callable[[], Mapping[int, int]],
) -> tuple[Telemetry, Metrics | None]:
    """Return the telemetry, and the metrics when they are served.

    Args:
        settings: The settings `metrics` and `traces`.
        gauges: See `Metrics`.
        refusals: See `Metrics`.

    Raises:
        NotInstalled: A package is missing that a setting needs.
    """
    sinks: list[Sink] = []
    metrics = None
    if settings.traces:  # first: the other sinks use the trace's id
        try:
            from .traces import Traces
        except ImportError as error:
            raise NotInstalled("traces", error) from None
        sinks.append(Traces())
    if settings.metrics:
        try:
            from .metrics import Metrics
        except ImportError as error:
            raise NotInstalled("metrics", error) from None
        metrics = Metrics(gauges, refusals)
        sinks.append(metrics)
    return Telemetry([*sinks, Logs()]), metrics


def export() -> Callable[[], object]:
    """Export the traces of this process with OTLP over HTTP.

    All options are environment variables of OpenTelemetry, such as OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_SERVICE_NAME and OTEL_TRACES_SAMPLER. A tracer provider that the process has already is left as
    it is.

    Returns:
        Sends the finished spans that wait, within two seconds.

    Raises:
        NotInstalled: The SDK or the exporter is missing.
    """
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise NotInstalled("traces", error) from None
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
