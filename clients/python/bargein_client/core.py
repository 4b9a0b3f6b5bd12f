"""Core of the client: no I/O, no clock and no randomness.

Ids are given to the core, and the owner of the connection calls

    attach()      when a channel is open; then sends `outgoing()`, and again after each call
    receive()     for each event; a ServerViolation means: drop the channel
    detach()      when the channel is gone

Events for the application wait in inboxes: one of each turn, and one of each `subscribe()`. Answers to
requests and ends of turns wait in `outcomes()`. `phases` has the table of the events that each phase
allows, `delivery` the table of the states of a turn's output.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

import bargein_protocol as bp
from bargein_protocol import ClientEvent, InputCommit, InputText, Interrupt, SessionRewind

from .delivery import Signal
from .events import EventsLost, SessionRestarted, SessionResumed
from .inbox import Bounds, Inbox
from .microphone import AudioInput
from .opening import Opening
from .outbox import INPUTS, Outbox, Outcome, SendQueue, check_size, copied
from .phases import Phase, check
from .tracked_turn import PlaybackReporter, TrackedTurn
from .turn_registry import OUTCOME_SIGNALS, TurnRegistry

_MAX_HEARTBEAT_S = 600.0  # the longest interval between frames that a server may announce


class ClientCore:
    """One session from the client's point of view.

    Args:
        auth: A credential for `session.open`.
        client: Name and version of the client program.
        bounds: Capacity of each inbox.
        audio: Audio to send and to get.
        resume: A session to go on with, such as one that began in another program; None for a fresh one.

    Raises:
        ValueError: A credential, a token or the client's name is not text that UTF-8 can encode.

    Attributes:
        phase: Phase of the connection.
        heartbeat_s: The longest silence of the server, in seconds; 0 when unknown.
        reconnect_after_s: Delay that the server asked for before the next connection; None without one.
        turns: The turns that have not ended.
        opening: Identity of the session, and its position.
        audio: The session's audio.
    """

    def __init__(
        self,
        *,
        auth: str | None = None,
        client: bp.ClientInfo | None = None,
        bounds: Bounds | None = None,
        audio: bp.SessionAudio | None = None,
        resume: bp.Resume | None = None,
    ) -> None:
        self.phase: Phase = Phase.OFFLINE
        self.heartbeat_s: float = 0.0
        self.reconnect_after_s: float | None = None
        self.turns: TurnRegistry = TurnRegistry(bounds or Bounds())
        self.opening = Opening(bp.SessionOpen(auth=auth, client=client, audio=audio), resume)
        self._sequence = self.opening.sequence
        self._outbox = Outbox()
        self._queue = SendQueue()
        self.audio: AudioInput = AudioInput(self._queue, audio)
        self._lost = set[str]()
        self._outcomes: list[tuple[str, Outcome]] = []

    @property
    def session_id(self) -> bp.SessionId | None:
        """Public id of the session; None before the first `session.opened`."""
        return self.opening.session_id

    @property
    def limits(self) -> bp.Limits | None:
        """The server's limits; None before the first `session.opened`."""
        return self.opening.limits

    @property
    def last_seq(self) -> bp.Seq:
        """The last number that was taken."""
        return self._sequence.last_seq

    # --- for the application ---------------------------------------------------------------------

    def subscribe(self) -> Inbox:
        """Return a new inbox that gets every event from now on."""
        return self.turns.subscribe()

    def send_input(self, event: InputText | InputCommit) -> TrackedTurn:
        """Ask for a turn, with text or with the speech so far.

        An interrupting text withholds the output of the running turns (contract 2); it is delivered if
        the server does not interrupt them.

        Raises:
            TooManyPending: Too many requests wait for an answer.
            TooLarge: The input exceeds the server's limits.
            TypeError: The metadata cannot be encoded as JSON.
        """
        if isinstance(event, InputText):
            event = structs.replace(event, metadata=copied(event.metadata))
        self._outbox.admit(event, self.limits)
        self.audio.flush()
        interrupts = isinstance(event, InputText) and event.on_busy in (None, "interrupt")
        for turn in self.turns.not_queued() if interrupts else ():
            if (played := turn.implied_playback()) is not None:
                self._report(turn.fold.turn_id, played)
            self.turns.withhold(turn, event.id)
        self._queue.append_request(event)
        return self.turns.add(event.id, getattr(event, "text", None))

    def interrupt(self, event: Interrupt, turn: TrackedTurn) -> None:
        """End a turn; its output is withheld from now on.

        Fills in the turn, and how much of it was played.

        Raises:
            TooManyPending: Too many requests wait for an answer.
        """
        input_id = turn.input_id if turn.turn_id is None else None
        event = structs.replace(event, turn_id=turn.turn_id, input_id=input_id)
        if event.played is not None:
            turn.reporter = PlaybackReporter.APPLICATION
        else:
            # Output still on its way is not shown, so the server's own count would be too high.
            event = structs.replace(event, played=turn.implied_playback())
        self._outbox.admit(event, self.limits)
        self._queue.append_request(event)
        self.turns.withhold(turn, event.id)

    def rewind(self, event: SessionRewind) -> None:
        """Drop a turn and later ones, and withhold their output from now on.

        Raises:
            TooManyPending: Too many requests wait for an answer.
        """
        self._outbox.admit(event, self.limits)
        for turn in self.turns.since(event.turn_id):
            self.turns.withhold(turn, event.id)
        self._queue.append_request(event)

    def hold(self, turn: TrackedTurn) -> None:
        """Pause a turn's output; dropped while offline."""
        if turn.turn_id is not None:
            self._queue.append_bounded(bp.TurnHold(turn_id=turn.turn_id))

    def resume(self, turn: TrackedTurn) -> None:
        """Resume a held turn. Dropped while offline: the server resumes it anyway."""
        if turn.turn_id is not None:
            self._queue.append_bounded(bp.TurnResume(turn_id=turn.turn_id))

    def playback(self, turn: TrackedTurn, played: bp.Played) -> None:
        """Report how much of a turn was played; ignored for a turn without an id."""
        if turn.turn_id is not None:
            turn.reporter = PlaybackReporter.APPLICATION
            self._report(turn.turn_id, played)

    def update(self, metadata: dict[str, Any]) -> None:
        """Merge parameters into the session's metadata; a None removes its key.

        Raises:
            TooLarge: The event exceeds the server's limits.
            TooManyPending: Too many events wait for the channel.
            TypeError: The metadata cannot be encoded as JSON.
        """
        metadata = copied(metadata)
        event = bp.SessionUpdate(metadata=metadata)
        check_size(event, self.limits)
        self._queue.append_bounded(event)
        self._outbox.merge(metadata)

    def answer_tool(self, event: bp.ToolOutput | bp.ToolDecision) -> None:
        """Send the output or the decision that a tool call waits for.

        Raises:
            TooLarge: The event exceeds the server's limits.
            TooManyPending: Too many events wait for the channel.
            TypeError: The output cannot be encoded as JSON.
        """
        if isinstance(event, bp.ToolOutput):
            event = structs.replace(event, output=copied(event.output))
        check_size(event, self.limits)
        self._queue.append_bounded(event)
        self._outbox.keep_tool(event)

    def close_session(self) -> None:
        """End the session for good; does nothing while offline."""
        if self.phase is not Phase.OFFLINE:
            self._queue.append(bp.SessionClose())

    # --- for the owner of the connection ---------------------------------------------------------

    def attach(self) -> None:
        """Begin on an open channel; `session.open` is the first event to send."""
        first = self.opening.first_frame(self._outbox)
        self._lost = set()
        self.reconnect_after_s = None
        self.phase = Phase.OPENING
        self._queue.reset([first])

    def detach(self) -> None:
        """End the use of a channel; the next one repeats unanswered requests."""
        self.phase = Phase.OFFLINE
        self.audio.close()
        self._queue.reset()

    def receive(self, event: bp.ServerEvent | bp.UnknownEvent) -> None:
        """Take an event in.

        Raises:
            ServerViolation: The event is out of place, and nothing has changed. Drop the channel,
                `detach()`, and open another one: the session resumes after the last valid event.
        """
        if self.phase is Phase.OFFLINE:
            return
        check(event, self.phase, self.last_seq, self.opening.epoch)
        if isinstance(event, (bp.TurnEvent, bp.UnknownEvent)) and event.turn_id:
            self.turns.check_room(event.turn_id)
        if missing := self._sequence.count_missing(event):
            self.turns.publish(EventsLost(count=missing))
        if isinstance(event, bp.Numbered) and event.seq:
            if self._sequence.is_duplicate(event.seq):
                return
            if isinstance(event, (bp.TurnEvent, bp.UnknownEvent)):
                self.turns.refuse_ended(event.turn_id)
            self._sequence.last_seq = event.seq
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)
        elif isinstance(event, (bp.TurnEvent, bp.UnknownEvent)) and event.turn_id and event.seq:
            self._turn_event(event)
        else:
            self.turns.publish(event)  # type: ignore[arg-type]  # the others have handlers

    def outgoing(self) -> list[ClientEvent]:
        """Return the events to send now, in order; each is returned once."""
        return self._queue.drain()

    def outcomes(self) -> list[tuple[str, Outcome]]:
        """Return answers by request id, and ends of turns by input id."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    @property
    def has_outgoing(self) -> bool:
        """Whether `outgoing()` would return an event."""
        return len(self._queue) > 0

    def _report(self, turn_id: bp.TurnId, played: bp.Played) -> None:
        self._queue.append_playback(self._outbox.report(turn_id, played))

    # --- receiving -------------------------------------------------------------------------------

    def _opened(self, event: bp.SessionOpened) -> None:
        if not event.resumed and self.session_id is not None:
            self._lose(event.reason or "unknown_session")
        if self.opening.is_adopted and event.resumed:
            self.turns.collect_history()
        self.opening.opened(event)
        self.audio.open(event.audio)
        self.heartbeat_s = min(event.heartbeat_ms / 1000, _MAX_HEARTBEAT_S)
        self.phase = Phase.REPLAYING if event.resumed else Phase.LIVE
        self._queue.accepts = True
        self._queue.append(*self._outbox.after_open(self.opening.sent, event.limits.frame_bytes))

    def _lose(self, reason: str) -> None:
        """End the turns and refuse the requests of a session that was lost."""
        self.turns.publish(SessionRestarted(reason=reason))
        for turn in self.turns.in_flight():
            self._end(turn, self.turns.lost_end(turn))
        self.turns.forget_ended()
        for request in self._outbox.lose():
            # The server sends the same for those that it received; `_error` drops these copies.
            self._lost.add(request.id)
            lost = bp.errors.SESSION_LOST
            self._refused(
                bp.ErrorEvent(code=lost.name, message=lost.reason, ref_id=request.id, retryable=True)
            )

    def _replay_done(self, event: bp.ReplayDone) -> None:
        self._sequence.last_seq = max(self.last_seq, event.through)
        self.phase = Phase.LIVE
        self.turns.complete_history()
        self.turns.publish(SessionResumed())

    def _snapshot(self, event: bp.Snapshot) -> None:
        self._sequence.last_seq = event.through
        over = self.turns.apply_snapshot(event)
        for state in event.turns:
            if state.input_id is not None and self._outbox.answer(state.input_id, INPUTS):
                accepted = bp.InputAccepted(turn_id=state.turn_id, input_id=state.input_id, duplicate=True)
                self._outcomes.append((state.input_id, accepted))
                self.turns.resolve(state.input_id, Signal.END, queued=False)
        for turn in over:
            self._end(turn, turn.fold.ended or self.turns.lost_end(turn))

    def _go_away(self, event: bp.GoAway) -> None:
        self.reconnect_after_s = event.reconnect_after_ms / 1000
        self.turns.publish(event)

    def _input_answered(self, event: bp.InputAccepted | bp.InputQueued) -> None:
        was_open = self.turns.is_open(event.turn_id)
        turn = self.turns.bind(event.turn_id, event.input_id)
        request = self._outbox.answer(event.input_id, INPUTS)
        turn.queued = isinstance(event, bp.InputQueued)
        if event.seq:
            turn.fold.apply(event)
        if request is None and was_open:
            return  # the numbered copy of an answer that a resend got before
        self.turns.deliver(turn, event)
        if request is not None:
            self._outcomes.append((request.id, event))
            if turn.queued:
                self.turns.resolve(request.id, Signal.DEFER)
            else:
                self.turns.resolve(request.id, Signal.END, queued=False)

    def _interrupt_result(self, event: bp.InterruptResult) -> None:
        if self._outbox.answer(event.interrupt_id, Interrupt) is None:
            return  # answered before
        self.turns.publish(event)
        self._outcomes.append((event.interrupt_id, event))
        self.turns.resolve(event.interrupt_id, OUTCOME_SIGNALS[event.outcome])

    def _rewound(self, event: bp.SessionRewound) -> None:
        waited = self._outbox.answer(event.rewind_id, SessionRewind) is not None
        self.turns.forget_history(event.turns)
        if event.seq or waited:
            self.turns.publish(event)
        if waited:
            self._outcomes.append((event.rewind_id, event))
            self.turns.resolve(event.rewind_id, Signal.END)

    def _error(self, event: bp.ErrorEvent) -> None:
        if event.code == "unknown_call":
            self._outbox.tool_settled(bp.CallId(event.ref_id or ""))
        if event.ref_id not in self._lost:
            self._refused(event)

    def _refused(self, event: bp.InputRejected | bp.ErrorEvent) -> None:
        """Settle the refused request, if one waits, and publish the event."""
        is_input = isinstance(event, bp.InputRejected)
        request_id = event.input_id if isinstance(event, bp.InputRejected) else event.ref_id
        request = self._outbox.answer(request_id or "", INPUTS if is_input else None)
        if request_id is not None and (request is not None or request_id in self._lost):
            self._outcomes.append((request_id, event))
            self.turns.resolve(request_id, None)
            turn = self.turns.of_input(request_id)
            if turn is not None and turn.turn_id is None:
                self.turns.close(turn)
        self.turns.publish(event)

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
        self._outbox.tools_settled(turn.fold)
        if (played := turn.final_playback(ended.status)) is not None:
            self._report(turn.fold.turn_id, played)
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
    bp.SessionRewound: ClientCore._rewound,
    bp.ErrorEvent: ClientCore._error,
}
