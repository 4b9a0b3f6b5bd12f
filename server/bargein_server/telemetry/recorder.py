"""Records the times of turns and passes events on to the sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import Context
from time import perf_counter

from bargein_protocol import InterruptResult, ServerEvent, SessionId, TurnEnded, TurnId

from ..core.observer import NO_SPAN, Attribute, Observer, Span
from ..core.turn_record import TurnRecord
from .sinks import SessionRecord, Sink, TurnTiming


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


NO_TELEMETRY = Telemetry()


class _Recorder(SessionTelemetry):
    __slots__ = (
        "_answer_sinks",
        "_ask_sinks",
        "_closed",
        "_end_sinks",
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
