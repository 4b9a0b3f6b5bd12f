"""Records of sessions and turns, their times, and the sinks that get them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Context
from time import perf_counter
from typing import Any

from bargein_protocol import InterruptResult, ServerEvent, SessionId, TurnEnded, TurnId

from ..core.observer import NO_SPAN, Attribute, Observer, Span
from ..core.principal import id_of
from ..core.turn_record import TurnRecord

REASONS = frozenset(
    {
        "completed", "client", "superseded", "client_gone", "session_closed", "barge_in",
        "agent_error", "timeout", "no_output", "upstream", "overload", "shutdown", "node_lost", "rewound",
        "length", "content_filter", "refusal",
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
        self.principal = id_of(principal)
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

    def speech(self, session: SessionRecord, decision: str, spoken_s: float, held_s: float | None) -> None:
        """Record a decision on the user's speech.

        Args:
            session: The session.
            decision: Name of a `floor.Decision`, in lower case.
            spoken_s: Time of the sound since the speech began, in seconds; for `resume` and `end` of a held
                turn, until the hold.
            held_s: For `resume` and `end` of a held turn, the time since the hold, in seconds.
        """

    def recognised(self, kind: str, result: str, seconds: float) -> None:
        """Record a recognition; see `Telemetry.recognised`."""

    def span(self, session: SessionRecord, name: str, kind: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a span; see `Turn.span`."""
        return NO_SPAN


class SessionTelemetry(Observer):
    """Observer of a session for its core and its host; ignores all events."""

    __slots__ = ()

    def attached(self, result: str, trace: Mapping[str, str]) -> None:
        """Record that a connection drives the session.

        Args:
            result: `fresh`, `resumed`, or the reason for which a resume was refused.
            trace: The W3C trace context of the handshake, by header; empty without one.
        """

    def detached(self) -> None:
        """Record that the session lost its connection."""

    def closed(self, reason: str) -> None:
        """Record the end of the session: `closed`, `expired` or `shutdown`.

        Only the first call counts.
        """

    def turn_started(self, turn_id: TurnId, context: Context) -> None:
        """Record that the agent is about to run in `context`."""

    def turn_output(self, turn_id: TurnId) -> None:
        """Record the first output of the agent."""

    def turn_abandoned(self, turn_id: TurnId) -> None:
        """Record that the agent's task did not end after two cancels."""

    def task_over(self, turn_id: TurnId) -> None:
        """Record that the agent's task ended or was abandoned."""

    def span(self, name: str, kind: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a child of the current span; see `Turn.span`."""
        return NO_SPAN


_NOTHING = SessionTelemetry()


class Telemetry:
    """Telemetry of all sessions of a server.

    Args:
        sinks: The receivers; without any, nothing is recorded.
    """

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._sinks = tuple(sinks)

    def session(self, session_id: SessionId, principal: str | None) -> SessionTelemetry:
        """Return the observer of a new session."""
        return _Recorder(self._sinks, session_id, principal) if self._sinks else _NOTHING

    def connected(self) -> None:
        """Record that a connection was accepted."""
        for sink in self._sinks:
            sink.connected()

    def disconnected(self, code: str) -> None:
        """Record the end of a connection.

        Args:
            code: The name of the code that the server closed it with, or `peer`.
        """
        for sink in self._sinks:
            sink.disconnected(code)

    def recognised(self, kind: str, result: str, seconds: float) -> None:
        """Record a recognition of speech.

        Args:
            kind: `quick`, `whole` or `judge`.
            result: `done`, `cancelled`, `failed`, `late` or `refused`.
            seconds: Its duration, with its wait.
        """
        for sink in self._sinks:
            sink.recognised(kind, result, seconds)


NO_TELEMETRY = Telemetry()


class _Recorder(SessionTelemetry):
    __slots__ = (
        "_answer_sinks",
        "_ask_sinks",
        "_closed",
        "_end_sinks",
        "_held",
        "_output_sinks",
        "_session",
        "_sinks",
        "_turns",
    )

    def __init__(self, sinks: tuple[Sink, ...], session_id: SessionId, principal: str | None) -> None:
        self._sinks = sinks
        # A client waits for no sink that does nothing.
        self._answer_sinks = tuple(sink for sink in sinks if type(sink).answered is not Sink.answered)
        self._ask_sinks = tuple(sink for sink in sinks if type(sink).turn_asked is not Sink.turn_asked)
        self._output_sinks = tuple(sink for sink in sinks if type(sink).turn_output is not Sink.turn_output)
        self._end_sinks = tuple(sink for sink in sinks if type(sink).turn_ended is not Sink.turn_ended)
        self._session = SessionRecord(session_id, principal, perf_counter())
        self._turns: dict[TurnId, TurnTiming] = {}  # turns that are not over
        self._closed = False
        self._held: tuple[float, float] | None = None  # time of the hold, and the speech before it
        for sink in sinks:
            sink.session_opened(self._session)

    # --- the session -----------------------------------------------------------------------------

    def attached(self, result: str, trace: Mapping[str, str]) -> None:
        self._session.trace = trace
        self._session.connections += 1
        self._session.attached = True
        for sink in self._sinks:
            sink.session_attached(self._session, result)

    def detached(self) -> None:
        if self._session.attached:
            self._session.attached = False
            for sink in self._sinks:
                sink.session_detached(self._session)

    def closed(self, reason: str) -> None:
        self.detached()
        if not self._closed:
            self._closed = True
            now = perf_counter()
            for sink in self._sinks:
                sink.session_closed(self._session, reason, now)

    def answered(self, event: ServerEvent) -> None:
        self._session.interrupts += isinstance(event, InterruptResult)
        for sink in self._answer_sinks:
            sink.answered(self._session, event)

    def speech(self, decision: str, spoken_ms: int) -> None:
        held_s, spoken_s = None, spoken_ms / 1000
        if decision == "hold":
            self._held = perf_counter(), spoken_s
        elif decision in ("resume", "end") and self._held is not None:
            held_at, spoken_s = self._held
            held_s, self._held = perf_counter() - held_at, None
        for sink in self._sinks:
            sink.speech(self._session, decision, spoken_s, held_s)

    # --- turns -----------------------------------------------------------------------------------

    def turn_asked(self, turn: TurnRecord) -> None:
        record = self._turns[turn.id] = TurnTiming(turn, perf_counter())
        self._session.turns += 1
        for sink in self._ask_sinks:
            sink.turn_asked(self._session, record)

    def turn_started(self, turn_id: TurnId, context: Context) -> None:
        record = self._turns[turn_id]
        record.started_at = perf_counter()
        for sink in self._sinks:
            sink.turn_started(self._session, record, context)

    def turn_output(self, turn_id: TurnId) -> None:
        record = self._turns[turn_id]
        record.output_at = perf_counter()
        for sink in self._output_sinks:
            sink.turn_output(self._session, record)

    def turn_cut(self, turn: TurnRecord) -> None:
        record = self._turns[turn.id]
        if record.cut_at is None:
            record.cut_at = perf_counter()

    def turn_ended(self, turn: TurnRecord, event: TurnEnded, ran: bool) -> None:
        record = self._turns[turn.id]
        record.ended_at, record.event = perf_counter(), event
        for sink in self._end_sinks:
            sink.turn_ended(self._session, record)
        # A turn can begin and end in one step of the core, before its start is recorded.
        if record.over_at is not None or (record.started_at is None and not ran):
            self._over(record)

    def turn_abandoned(self, turn_id: TurnId) -> None:
        self._turns[turn_id].abandoned = True

    def task_over(self, turn_id: TurnId) -> None:
        record = self._turns[turn_id]
        record.over_at = perf_counter()
        if record.ended_at is not None:
            self._over(record)

    def _over(self, record: TurnTiming) -> None:
        if record.over_at is None or (record.ended_at is not None and record.over_at < record.ended_at):
            record.over_at = record.ended_at
        del self._turns[record.turn.id]
        for sink in self._sinks:
            sink.turn_over(self._session, record)

    def span(self, name: str, kind: str, attributes: Mapping[str, Attribute]) -> Span:
        for sink in self._sinks:
            span = sink.span(self._session, name, kind, attributes)
            if span is not NO_SPAN:
                return span
        return NO_SPAN
