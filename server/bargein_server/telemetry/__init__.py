"""Metrics, traces and logs behind one small interface. Internal.

The hosts and the core report to the `SessionTelemetry` of a session: once for a turn, a request or a
connection, and never for a token. It measures each turn and passes the results on to *sinks*, of which
there are three: `metrics`, `traces`, `logs`. Without sinks, `NO_TELEMETRY` takes their place and does
nothing.

    Session, SessionHost, Runner ─▶ SessionTelemetry ─▶ Sink: Metrics, Traces, Logs

No sink gets the text of users or agents.
"""

from .recorder import NO_TELEMETRY, SessionRecord, SessionTelemetry, Sink, Telemetry, TurnTiming

__all__ = ["NO_TELEMETRY", "SessionRecord", "SessionTelemetry", "Sink", "Telemetry", "TurnTiming"]
