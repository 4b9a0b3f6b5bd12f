"""What the server tells of itself: metrics, traces and logs, behind one small interface.

The shell and the core tell a session's `SessionTelemetry` what happens, once a turn, a request or a
connection and never once a token. It keeps the times of each turn and hands them to *sinks*, of which
there are three: `metrics`, `traces`, `logs`. Without sinks, `NO_TELEMETRY` takes their place and does
nothing.

    Session, LiveSession, Runner ─▶ SessionTelemetry ─▶ Sink: Metrics, Traces, Logs

What users said and what agents answer is told to none of them.
"""

from .recorder import NO_TELEMETRY, SessionTelemetry, Telemetry
from .sinks import SessionRecord, Sink, TurnTiming

__all__ = ["NO_TELEMETRY", "SessionRecord", "SessionTelemetry", "Sink", "Telemetry", "TurnTiming"]
