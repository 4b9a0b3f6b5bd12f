"""The client without a socket: events go in, and what to send and what to deliver come out.

No I/O, no clock and no randomness: ids are given to it, and whoever owns the line calls

    attach()      when a line is up; then sends what `outgoing()` gives, and again after each call
    receive()     for each event that comes; ServerViolation means: drop the line
    detach()      when the line is gone

Events for the application wait in inboxes: one of each turn, and one of each `subscribe()`. Answers
to requests and ends of turns wait in `outcomes()`. What may come when is a table in `phases`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

import bargein_protocol as bp
from bargein_protocol import ClientEvent

from .asking import Asking
from .errors import ServerViolation
from .events import EventsLost, SessionRestarted, SessionResumed
from .inbox import Bounds
from .phases import Phase, check, gap_before
from .tracked import TrackedTurn
from .turntable import VERDICTS

Outcome = (
    bp.InputAccepted | bp.InputQueued | bp.InputRejected | bp.InterruptResult | bp.ErrorEvent | bp.TurnEnded
)
"""What settles a request or a turn."""


class ClientCore(Asking):
    """One session as its client sees it.

    Args:
        auth: A credential for `session.open`.
        client: What the client calls itself.
        bounds: How much waits for one consumer.

    Raises:
        ValueError: The credential or the client's name is not text that UTF-8 can hold.

    Attributes:
        phase: How far the line is.
        session_id: The session's public name; None before the first `session.opened`.
        limits: What the server accepts; None before the first `session.opened`.
        last_seq: The last number that was taken.
        duplicates: How many events came twice and were dropped.
        heartbeat_s: The server is silent for this long at most, in seconds; 0 when not known.
        reconnect_after_s: When the server asked to be called again; None when it did not.
        turns: The turns that have not ended.
    """

    def __init__(
        self,
        *,
        auth: str | None = None,
        client: bp.ClientInfo | None = None,
        bounds: Bounds | None = None,
    ) -> None:
        super().__init__(bounds or Bounds())
        self.session_id: bp.SessionId | None = None
        self.last_seq = bp.NO_SEQ
        self.duplicates = 0
        self.heartbeat_s = 0.0
        self.reconnect_after_s: float | None = None
        self._opening = bp.SessionOpen(auth=auth, client=client)
        bp.JSON.encode(self._opening)  # what cannot be written is said here and not by a line that ends
        self._token = bp.Token("")
        self._epoch = bp.Epoch("")
        self._in_opening: set[str] = set()
        self._lost: set[str] = set()
        self._gap_after: bp.Seq | None = None
        self._gap_resumed: bp.Seq | None = None
        self._outcomes: list[tuple[str, Outcome]] = []

    # --- for the owner of the line ---------------------------------------------------------------

    def attach(self) -> None:
        """Begin on a line that is up; `session.open` is the first event to send."""
        opening = self._opening
        self._in_opening = set()
        if self.session_id is not None and self.limits is not None:
            cursor = bp.Cursor(epoch=self._epoch, seq=self.last_seq)
            resume = bp.Resume(session_id=self.session_id, token=self._token, cursor=cursor)
            opening = structs.replace(opening, resume=resume)
            pending = self._outbox.pending(opening, self.limits.frame_bytes)
            opening = structs.replace(opening, pending=pending or None)
            self._in_opening = {request.id for request in pending}
        self._lost = set()
        self._gap_resumed = self._gap_after
        self.reconnect_after_s = None
        self.phase = Phase.OPENING
        self._outgoing = [opening]

    def detach(self) -> None:
        """The line is gone. What matters and may not have arrived is sent again on the next one."""
        self.phase = Phase.OFFLINE
        self._outgoing = []

    def receive(self, event: bp.ServerEvent | bp.UnknownEvent) -> None:
        """Take an event in.

        Raises:
            ServerViolation: It does not fit, and nothing has changed. Drop the line, `detach()`, and
                open another: the session is resumed after the last event that fitted.
        """
        if self.phase is Phase.OFFLINE:
            return
        check(event, self.phase, self.last_seq, self._epoch)
        gap = gap_before(event, self.last_seq)
        if gap:
            self._pass_gap(gap)
        if isinstance(event, bp.Numbered) and event.seq:
            if event.seq <= self.last_seq:
                self.duplicates += 1
                return
            if isinstance(event, (bp.TurnEvent, bp.UnknownEvent)):
                self.turns.refuse_ended(event.turn_id)
            self.last_seq = event.seq
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)
        elif isinstance(event, (bp.TurnEvent, bp.UnknownEvent)) and event.turn_id and event.seq:
            self._turn_event(event)
        else:
            self.turns.tell(event)  # type: ignore[arg-type]  # the others have handlers

    def outgoing(self) -> list[ClientEvent]:
        """Return what to send now, in order, once."""
        events, self._outgoing = self._outgoing, []
        return events

    def outcomes(self) -> list[tuple[str, Outcome]]:
        """Return answers under the id of their request, and ends of turns under their input's id."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    @property
    def has_outgoing(self) -> bool:
        """Whether `outgoing()` would give something."""
        return bool(self._outgoing)

    # --- receiving -------------------------------------------------------------------------------

    def _pass_gap(self, count: int) -> None:
        """Let a gap pass that a resume did not fill; a new one is a lost line."""
        if self._gap_resumed != self.last_seq:
            self._gap_after = self.last_seq
            raise ServerViolation(f"expected number {self.last_seq + 1}, {count} are missing")
        self._gap_after = self._gap_resumed = None
        self.turns.tell(EventsLost(count=count))

    def _opened(self, event: bp.SessionOpened) -> None:
        if not event.resumed and self.session_id is not None:
            self._lose(event.reason or "unknown_session")
        self.session_id, self._token, self._epoch = event.session_id, event.token, event.epoch
        self.limits = event.limits
        self.heartbeat_s = event.heartbeat_ms / 1000
        if event.resumed:
            self.phase = Phase.REPLAYING
        else:
            self.phase, self.last_seq = Phase.LIVE, bp.NO_SEQ
        self._outgoing += self._outbox.after_open(self._in_opening, event.limits.frame_bytes)

    def _lose(self, reason: str) -> None:
        """The resume was refused: end everything here that has no other end any more."""
        self.turns.tell(SessionRestarted(reason=reason))
        for turn in self.turns.in_flight():
            self._end(turn, self.turns.lost_end(turn))
        self.turns.forget_ended()
        for request in self._outbox.lose():
            # The server says the same of those that it saw; its copies are dropped, see `_error`.
            self._lost.add(request.id)
            lost = bp.errors.SESSION_LOST
            self._refused(
                bp.ErrorEvent(code=lost.name, message=lost.reason, ref_id=request.id, retryable=True)
            )

    def _replay_done(self, event: bp.ReplayDone) -> None:
        self.last_seq = max(self.last_seq, event.through)
        self.phase = Phase.LIVE
        self.turns.tell(SessionResumed())

    def _snapshot(self, event: bp.Snapshot) -> None:
        self.last_seq = event.through
        over = self.turns.replace(event)
        for state in event.turns:
            if state.input_id is not None and self._outbox.answer(state.input_id) is not None:
                accepted = bp.InputAccepted(turn_id=state.turn_id, input_id=state.input_id, duplicate=True)
                self._outcomes.append((state.input_id, accepted))
                self.turns.decide(state.input_id, "replaces")
        for turn in over:
            self._end(turn, turn.fold.ended or self.turns.lost_end(turn))

    def _go_away(self, event: bp.GoAway) -> None:
        self.reconnect_after_s = event.reconnect_after_ms / 1000
        self.turns.tell(event)

    def _input_answered(self, event: bp.InputAccepted | bp.InputQueued) -> None:
        known = self.turns.knows(event.turn_id)
        turn = self.turns.bind(event.turn_id, event.input_id)
        request = self._outbox.answer(event.input_id)
        turn.queued = isinstance(event, bp.InputQueued)
        if event.seq:
            turn.fold.apply(event)
        if request is None and known:
            return  # the numbered copy of what came first as the answer to a resend
        self.turns.deliver(turn, event)
        if request is not None:
            self._outcomes.append((request.id, event))
            self.turns.decide(request.id, "spares" if turn.queued else "replaces")

    def _interrupt_result(self, event: bp.InterruptResult) -> None:
        if self._outbox.answer(event.interrupt_id) is None:
            return  # answered before
        self.turns.tell(event)
        self._outcomes.append((event.interrupt_id, event))
        self.turns.decide(event.interrupt_id, VERDICTS[event.outcome])

    def _error(self, event: bp.ErrorEvent) -> None:
        if event.code == "unknown_call":
            self._outbox.tool_settled(bp.CallId(event.ref_id or ""))
        if event.ref_id not in self._lost:
            self._refused(event)

    def _refused(self, event: bp.InputRejected | bp.ErrorEvent) -> None:
        """Settle the request that the event refuses, if one waits, and tell everyone."""
        request_id = event.input_id if isinstance(event, bp.InputRejected) else event.ref_id
        waited = request_id is not None and (
            self._outbox.answer(request_id) is not None or request_id in self._lost
        )
        if request_id is not None and waited:
            self._outcomes.append((request_id, event))
            self.turns.decide(request_id, "nothing")
            turn = self.turns.of_input(request_id)
            if turn is not None and turn.turn_id is None:
                self.turns.close(turn)
        self.turns.tell(event)

    def _turn_event(self, event: bp.TurnEvent | bp.UnknownEvent) -> None:
        turn = self.turns.bind(event.turn_id, event.input_id if isinstance(event, bp.TurnStarted) else None)
        turn.fold.apply(event)
        if isinstance(event, bp.TurnEnded):
            self._end(turn, event)
            return
        if isinstance(event, bp.TurnStarted):
            turn.queued = False
        elif isinstance(event, (bp.ToolResult, bp.ToolRunning)):
            self._outbox.tool_settled(event.call_id)
        self.turns.deliver(turn, event)  # type: ignore[arg-type]  # the other kinds have handlers

    def _end(self, turn: TrackedTurn, ended: bp.TurnEnded) -> None:
        for lane in turn.fold.lanes.values():
            for call_id in lane.tools:
                self._outbox.tool_settled(call_id)
        if turn.implied and not turn.muted:
            # It was spoken for when an interrupt was sent, and then it went on after all.
            whole = turn.spared or ended.status != "interrupted"
            self._report(
                turn.fold.turn_id,
                bp.Played(seq=turn.fold.last_output_seq if whole else turn.inbox.taken_seq),
            )
        self.turns.end(turn, ended)
        if turn.input_id is not None:
            self._outcomes.append((turn.input_id, ended))


_HANDLERS: dict[type, Callable[[ClientCore, Any], None]] = {
    bp.SessionOpened: ClientCore._opened,
    bp.ReplayDone: ClientCore._replay_done,
    bp.Snapshot: ClientCore._snapshot,
    bp.GoAway: ClientCore._go_away,
    bp.InputAccepted: ClientCore._input_answered,
    bp.InputQueued: ClientCore._input_answered,
    bp.InputRejected: ClientCore._refused,
    bp.InterruptResult: ClientCore._interrupt_result,
    bp.ErrorEvent: ClientCore._error,
}
