"""Create the sinks for the settings, and import only their packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..settings import Settings
from .logs import Logs
from .recorder import Telemetry
from .sinks import Sink

if TYPE_CHECKING:
    from .metrics import Metrics

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
    """Set up the export of traces; see `export_traces`.

    Raises:
        NotInstalled: The SDK or the exporter is missing.
    """
    try:
        from .export import export_traces
    except ImportError as error:
        raise NotInstalled("traces", error) from None
    return export_traces()
