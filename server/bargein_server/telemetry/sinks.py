"""Where telemetry goes, and what is kept of sessions and turns for it."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from typing import Any

from bargein_protocol import ServerEvent, SessionId, TurnEnded

from ..core.spans import NO_SPAN, Attribute, Span
from ..core.turn_record import TurnRecord

REASONS = frozenset(
    {
        "completed", "client", "superseded", "client_gone", "session_closed", "barge_in",
        "agent_error", "timeout", "no_output", "upstream", "overload", "shutdown",
    }
)  # fmt: skip
"""The reasons of ends that are told by name. Clients and agents may give others: all are `other`, so
that nobody can make labels grow."""


class SessionRecord:
    """What is kept of a session. Times are `time.perf_counter()`, seconds.

    Attributes:
        id: Its public id.
        principal: Whose it is; None without authentication.
        opened_at: When it began.
        connections: How many connections drove it so far, one after the other.
        turns: How many inputs got a turn.
        interrupts: How many interrupts were answered.
        attached: Whether a connection drives it.
        trace: The W3C trace context that its client sent with the newest connection.
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
    """What is kept of a turn. Times are `time.perf_counter()`, seconds; None for what did not happen.

    Attributes:
        turn: The core's record.
        asked_at: When its input was read.
        started_at: When its agent began to run.
        output_at: When its agent gave its first output.
        cut_at: When the request was read that ended it: an interrupt, or an input that took its place.
        ended_at: When its end was numbered: the fence.
        over_at: When its task had ended or was abandoned, and it had its end.
        abandoned: Its task did not end.
        event: Its end.
        span: What a trace shows of it; None without traces.
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
    """Takes what happened. Methods return at once and raise nothing; these do nothing."""

    def connected(self) -> None:
        """A connection was accepted."""

    def disconnected(self, code: str) -> None:
        """It is gone: the name of the code that the server closed it with, or `peer`."""

    def session_opened(self, session: SessionRecord) -> None:
        """A session began."""

    def session_attached(self, session: SessionRecord, result: str) -> None:
        """A connection drives it: `fresh`, `resumed`, or why another session could not be resumed."""

    def session_detached(self, session: SessionRecord) -> None:
        """Its connection is gone; the session may live on."""

    def session_closed(self, session: SessionRecord, reason: str, now: float) -> None:
        """It is over, and detached: `closed`, `expired` or `shutdown`."""

    def answered(self, session: SessionRecord, event: ServerEvent) -> None:
        """An unnumbered event was made for its client."""

    def turn_asked(self, session: SessionRecord, turn: TurnTiming) -> None:
        """An input got a turn."""

    def turn_started(self, session: SessionRecord, turn: TurnTiming, context: Context) -> None:
        """Its agent is about to run in this context."""

    def turn_output(self, session: SessionRecord, turn: TurnTiming) -> None:
        """Its agent gave its first output."""

    def turn_ended(self, session: SessionRecord, turn: TurnTiming) -> None:
        """Its end was numbered; its cleanup may go on."""

    def turn_over(self, session: SessionRecord, turn: TurnTiming) -> None:
        """It has its end, and its task has ended or was abandoned."""

    def span(self, session: SessionRecord, name: str, kind: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a piece of work; see `Turn.span`."""
        return NO_SPAN
