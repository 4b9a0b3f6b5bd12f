"""Sinks of telemetry, and the records of sessions and turns for them."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from typing import Any

from bargein_protocol import ServerEvent, SessionId, TurnEnded

from ..core.observer import NO_SPAN, Attribute, Span
from ..core.turn_record import TurnRecord

REASONS = frozenset(
    {
        "completed", "client", "superseded", "client_gone", "session_closed", "barge_in",
        "agent_error", "timeout", "no_output", "upstream", "overload", "shutdown",
    }
)  # fmt: skip
"""Reasons that appear by name. Clients and agents may choose others, which all count as `other`, so that
the number of labels is bounded."""


class SessionRecord:
    """Record of a session. Times are `time.perf_counter()`, in seconds.

    Attributes:
        id: The public id.
        principal: The client's principal; None without authentication.
        opened_at: Time of its start.
        connections: Number of connections that drove it so far.
        turns: Number of inputs with a turn.
        interrupts: Number of answered interrupts.
        attached: Whether a connection drives it.
        trace: The W3C trace context of the newest connection.
    """

    __slots__ = ("attached", "connections", "id", "interrupts", "opened_at", "principal", "trace", "turns")

    def __init__(self, session_id: SessionId, principal: str | None, now: float) -> None:
        self.id = session_id
        self.principal = principal
        self.opened_at = now
        self.connections = 0
        self.attached = False
        self.turns = 0
        self.interrupts = 0
        self.trace: Mapping[str, str] = {}


class TurnTiming:
    """Record of a turn.

    Times are `time.perf_counter()`, in seconds; None for events that did not happen.

    Attributes:
        turn: The core's record.
        asked_at: Time at which its input was read.
        started_at: Time at which its agent began to run.
        output_at: Time of its agent's first output.
        cut_at: Time at which the request was read that ended it, an interrupt or a newer input.
        ended_at: Time at which its end was numbered: the fence.
        over_at: Time at which it had its end, and its task had ended or was abandoned.
        abandoned: Whether its task did not end.
        event: Its end.
        span: Its span; None without traces.
        trace_id: The id of the trace, in hexadecimal; empty without traces.
    """

    __slots__ = (
        "abandoned", "asked_at", "cut_at", "ended_at", "event", "output_at", "over_at", "span", "started_at",
        "trace_id", "turn",
    )  # fmt: skip

    def __init__(self, turn: TurnRecord, now: float) -> None:
        self.turn = turn
        self.asked_at = now
        self.started_at: float | None = None
        self.output_at: float | None = None
        self.cut_at: float | None = None
        self.ended_at: float | None = None
        self.over_at: float | None = None
        self.abandoned = False
        self.event: TurnEnded | None = None
        self.span: Any = None
        self.trace_id = ""


class Sink:
    """Receiver of telemetry.

    Methods must return immediately and raise nothing. The methods of this class do nothing.
    """

    def connected(self) -> None:
        """Record that a connection was accepted."""

    def disconnected(self, code: str) -> None:
        """Record the end of a connection; see `Telemetry.disconnected`."""

    def session_opened(self, session: SessionRecord) -> None:
        """Record the start of a session."""

    def session_attached(self, session: SessionRecord, result: str) -> None:
        """Record a connection of a session; see `SessionTelemetry.attached`."""

    def session_detached(self, session: SessionRecord) -> None:
        """Record that a session lost its connection; the session may go on."""

    def session_closed(self, session: SessionRecord, reason: str, now: float) -> None:
        """Record the end of a detached session: `closed`, `expired` or `shutdown`."""

    def answered(self, session: SessionRecord, event: ServerEvent) -> None:
        """Record an unnumbered event for the client of a session."""

    def turn_asked(self, session: SessionRecord, turn: TurnTiming) -> None:
        """Record that an input got a turn."""

    def turn_started(self, session: SessionRecord, turn: TurnTiming, context: Context) -> None:
        """Record that the agent of a turn is about to run in this context."""

    def turn_output(self, session: SessionRecord, turn: TurnTiming) -> None:
        """Record the first output of the agent of a turn."""

    def turn_ended(self, session: SessionRecord, turn: TurnTiming) -> None:
        """Record that the end of a turn was numbered; its cleanup may go on."""

    def turn_over(self, session: SessionRecord, turn: TurnTiming) -> None:
        """Record that a turn and its task are over."""

    def span(self, session: SessionRecord, name: str, kind: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a span; see `Turn.span`."""
        return NO_SPAN
