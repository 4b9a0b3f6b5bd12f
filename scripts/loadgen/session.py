"""One session of the load test, with checks of the protocol.

It does not use `bargein_client`, because a check that shares code with a client shares its errors. The
checks: numbers are contiguous; every request is answered; every turn ends once; no event of a turn comes
after its end, and, on a live line, only its end comes after an accepted interrupt.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import bargein_protocol as bp
from bargein_protocol import ClientEvent, Codec, InputText, Interrupt

from .figures import Figures


class LoadTurn:
    """One turn.

    Attributes:
        asked_at: Time at which its input was due, or was sent if that was about the same.
        interrupt_at: Time at which its interrupt was due or sent.
        last_token_at: Time of its last token.
        fenced: Whether its interrupt was accepted and the line has been live since.
        deferred: Whether its interrupt waits for a protected section.
        ended_at: Time of its end.
        dismissed: Whether it was interrupted because the run is over. All users do that at one moment, so
            its duration does not count, unless it never ends.
        disturbed: Whether the generator cut the line or did not read, so that its durations do not count.
    """

    __slots__ = (
        "asked_at",
        "deferred",
        "dismissed",
        "disturbed",
        "ended_at",
        "fenced",
        "input_id",
        "interrupt_at",
        "last_output_at",
        "last_token_at",
        "turn_id",
    )

    def __init__(self, input_id: str, asked_at: float) -> None:
        self.input_id = input_id
        self.asked_at = asked_at
        self.turn_id: bp.TurnId | None = None
        self.interrupt_at: float | None = None
        self.last_output_at: float | None = None
        self.last_token_at: float | None = None
        self.ended_at: float | None = None
        self.fenced = False
        self.deferred = False
        self.dismissed = False
        self.disturbed = False


class LoadSession:
    """State of one session; times are those of `perf_counter`.

    Args:
        codec: The codec of the frames.
        figures: The counts and durations.
        write: Writes a frame; None without a line.

    Attributes:
        open: Whether `session.opened` was received on this line.
        replaying: Whether a replay is under way.
        slow: Whether its user stops reading at times, so that its durations do not count.
    """

    def __init__(self, codec: Codec, figures: Figures) -> None:
        self.open = False
        self.replaying = False
        self.slow = False
        self.write: Callable[[bytes], None] | None = None
        self._codec = codec
        self._figures = figures
        self._ids = count(1)
        self._resume: tuple[bp.SessionId, bp.Token, bp.Epoch] | None = None
        self._seq = 0
        self._cut = False  # by ourselves: what waits for a line then does not wait for the server
        self._connect_at = 0.0
        self._pending: dict[str, InputText | Interrupt] = {}
        self._taken_along: tuple[str, ...] = ()  # ids of the requests in the resume of this line
        self._turns: dict[str, LoadTurn] = {}
        self._by_input: dict[str, LoadTurn] = {}

    # --- what its user does ----------------------------------------------------------------------

    def attach(self, write: Callable[[bytes], None], began: float) -> None:
        """Open the session on a line, or resume it.

        Args:
            write: Writes a frame.
            began: Time at which the connection was due.
        """
        self.write, self._connect_at = write, began
        opening = bp.SessionOpen(client=bp.ClientInfo(name="load test"))
        self._taken_along = ()
        if self._resume is not None:
            session_id, token, epoch = self._resume
            cursor = bp.Cursor(epoch=epoch, seq=bp.Seq(self._seq))
            resume = bp.Resume(session_id=session_id, token=token, cursor=cursor)
            opening = bp.SessionOpen(resume=resume, pending=list(self._pending.values()) or None)
            self._taken_along = tuple(self._pending)
        write(self._codec.encode(opening))

    def detach(self, *, on_purpose: bool) -> None:
        """Record the loss of the line.

        Durations under way do not count when the generator itself cut the line.
        """
        if self.open:
            self._figures.opened -= 1
        self.write, self.open, self.replaying = None, False, False
        self._cut = on_purpose
        for turn in self._by_input.values():
            turn.disturbed = turn.disturbed or (on_purpose and turn.ended_at is None)
            turn.fenced = False  # frames from before the fence may be replayed

    def ask(self, text: str, intended: float, now: float) -> LoadTurn:
        """Request a turn, which supersedes the running one."""
        turn = LoadTurn(f"in_{next(self._ids)}", self._figures.begun(intended, now))
        turn.disturbed = self.slow or self._cut
        self._by_input[turn.input_id] = turn
        self._figures.asked += 1
        self._request(InputText(id=bp.InputId(turn.input_id), text=text, on_busy="interrupt"))
        return turn

    def interrupt(self, turn: LoadTurn, intended: float, now: float) -> None:
        """Interrupt a turn, unless it has ended."""
        if turn.ended_at is not None or turn.interrupt_at is not None:
            return
        turn.interrupt_at = self._figures.begun(intended, now)
        named = bp.InputId(turn.input_id) if turn.turn_id is None else None
        interrupt_id = bp.InterruptId(f"x_{turn.input_id}")
        self._request(Interrupt(id=interrupt_id, turn_id=turn.turn_id, input_id=named))

    def close(self) -> None:
        """Close the session."""
        self._send(bp.SessionClose())

    def _request(self, event: InputText | Interrupt) -> None:
        self._pending[event.id] = event
        if self.open:
            self._send(event)
        # Otherwise it goes up with the resume, or as soon as the session is open.

    def _send(self, event: ClientEvent) -> None:
        if self.write is not None:
            self.write(self._codec.encode(event))

    # --- what is left ----------------------------------------------------------------------------

    def unfinished(self) -> list[LoadTurn]:
        """Return the turns without an end."""
        return [turn for turn in self._by_input.values() if turn.ended_at is None]

    @property
    def idle(self) -> bool:
        """Return whether all requests are answered and all turns have ended."""
        return not self._pending and not self.unfinished()

    def give_up(self, now: float) -> None:
        """Count missing answers and ends, with the time since they were due."""
        self._figures.errors["a request without an answer"] += len(self._pending)
        for turn in self.unfinished():
            if turn.input_id in self._pending:
                continue
            self._figures.errors["a turn without an end"] += 1
            if turn.interrupt_at is not None and not turn.disturbed:
                self._figures.times["interrupt"].record(now - turn.interrupt_at)

    # --- what comes ------------------------------------------------------------------------------

    def receive(self, frame: bytes, now: float) -> None:
        """Check and count a frame."""
        try:
            event = self._codec.decode_server(frame)
        except bp.DecodeError as error:
            self._figures.errors[f"a frame that cannot be decoded: {error.code.name}"] += 1
            return
        if isinstance(event, bp.Numbered) and event.seq:
            if event.seq != self._seq + 1:
                wrong = "a number twice" if event.seq <= self._seq else "numbers that are missing"
                self._figures.errors[wrong] += 1
            self._seq = max(self._seq, event.seq)
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event, now)
        elif isinstance(event, bp.TurnEvent):
            self._output(event, now)

    def _output(self, event: bp.TurnEvent, now: float) -> None:
        turn = self._turns.get(event.turn_id)
        if turn is None:
            self._figures.errors["an event of an unknown turn"] += 1
            return
        if turn.ended_at is not None or turn.fenced:
            self._figures.stale += 1
            self._figures.times["stale"].record(now - (turn.interrupt_at or turn.ended_at or now))
            return
        turn.last_output_at = now
        if not isinstance(event, (bp.TextDelta, bp.AudioDelta)):
            return
        self._figures.tokens += 1
        if not turn.disturbed and not self.replaying:
            times = self._figures.times
            if turn.last_token_at is None:
                times["first-token"].record(now - turn.asked_at)
            else:
                times["gap"].record(now - turn.last_token_at)
        turn.last_token_at = now

    def _ended(self, event: bp.TurnEnded, now: float) -> None:
        turn = self._turns.get(event.turn_id)
        if turn is None or turn.ended_at is not None:
            self._figures.errors["a second end of a turn" if turn else "an event of an unknown turn"] += 1
            return
        self._end(turn, event.status, event.reason, now)
        ours = turn.interrupt_at is not None and event.reason == "client" and not turn.deferred
        if turn.disturbed or turn.dismissed or turn.interrupt_at is None or not ours:
            return
        self._figures.times["interrupt"].record(now - turn.interrupt_at)
        if turn.last_output_at is not None and turn.last_output_at > turn.interrupt_at:
            self._figures.times["last-output"].record(turn.last_output_at - turn.interrupt_at)

    def _end(self, turn: LoadTurn, status: str, reason: str, now: float) -> None:
        turn.ended_at = now
        self._figures.turns[status if status == reason else f"{status}: {reason}"] += 1
        if turn.last_token_at is None and not turn.disturbed:
            if reason == "superseded":
                # It waited until the next input came: at least this long.
                self._figures.times["first-token"].record(now - turn.asked_at)
            elif status == "interrupted":
                self._figures.cut_early += 1

    def _opened(self, event: bp.SessionOpened, now: float) -> None:
        if self.open:
            self._figures.errors["a second session.opened"] += 1
            return
        resuming = self._resume is not None
        if resuming and not event.resumed:
            self._lost(event.reason or "no reason", now)
        if not event.resumed:
            self._seq = 0
        if not resuming:
            self._figures.times["connect"].record(now - self._connect_at)
        self._resume = (event.session_id, event.token, event.epoch)
        self.open, self.replaying, self._cut = True, event.resumed, False
        self._figures.opened += 1
        self._figures.reached = max(self._figures.reached, self._figures.opened)
        for request in self._pending.values():
            if request.id not in self._taken_along:
                self._send(request)

    def _lost(self, reason: str, now: float) -> None:
        """Record a refused resume, which ends all turns under way."""
        self._figures.errors[f"a resume refused: {reason}"] += 1
        self._pending.clear()
        for turn in self.unfinished():
            self._end(turn, "failed", "session_lost", now)

    def _replayed(self, event: bp.ReplayDone, now: float) -> None:
        if event.through != self._seq:
            self._figures.errors["numbers that are missing"] += 1
        self.replaying = False
        self._figures.times["resume"].record(now - self._connect_at)

    def _snapshot(self, event: bp.Snapshot, now: float) -> None:
        self._seq = event.through
        states = {state.turn_id: state for state in event.turns}
        for state in event.turns:
            if state.input_id is not None:
                self._bind(state.input_id, state.turn_id)
        for turn in self.unfinished():
            state_of = states.get(turn.turn_id) if turn.turn_id is not None else None
            if turn.turn_id is not None and state_of is None:
                self._end(turn, "failed", "session_lost", now)
            elif state_of is not None and state_of.status is not None:
                self._end(turn, state_of.status, state_of.reason or "", now)

    def _bind(self, input_id: str, turn_id: bp.TurnId) -> None:
        self._pending.pop(input_id, None)
        turn = self._by_input.get(input_id)
        if turn is not None:
            turn.turn_id = turn_id
            self._turns[turn_id] = turn

    def _accepted(self, event: bp.InputAccepted | bp.InputQueued, now: float) -> None:
        if event.input_id not in self._by_input:
            self._figures.errors["an answer to nothing"] += 1
        self._bind(event.input_id, event.turn_id)

    def _rejected(self, event: bp.InputRejected, now: float) -> None:
        self._refused(event.input_id, f"input.rejected {event.code}", now)

    def _error(self, event: bp.ErrorEvent, now: float) -> None:
        if (
            event.ref_id is None or event.code != bp.errors.SESSION_LOST.name
        ):  # that is counted as the refusal
            self._refused(event.ref_id or "", f"error {event.code}", now)

    def _refused(self, request_id: str, kind: str, now: float) -> None:
        self._figures.errors[kind] += 1
        self._pending.pop(request_id, None)
        turn = self._by_input.get(request_id)
        if turn is not None and turn.turn_id is None:
            turn.ended_at = now

    def _result(self, event: bp.InterruptResult, now: float) -> None:
        if self._pending.pop(event.interrupt_id, None) is None:
            self._figures.errors["an answer to nothing"] += 1
            return
        self._figures.outcomes[event.outcome] += 1
        turn = self._by_input.get(event.interrupt_id.removeprefix("x_"))
        if turn is not None:
            turn.deferred = event.outcome == "deferred"
            turn.fenced = event.outcome == "interrupted" and not self.replaying


_HANDLERS: dict[type, Callable[[LoadSession, Any, float], None]] = {
    bp.SessionOpened: LoadSession._opened,
    bp.ReplayDone: LoadSession._replayed,
    bp.Snapshot: LoadSession._snapshot,
    bp.InputAccepted: LoadSession._accepted,
    bp.InputQueued: LoadSession._accepted,
    bp.InputRejected: LoadSession._rejected,
    bp.InterruptResult: LoadSession._result,
    bp.ErrorEvent: LoadSession._error,
    bp.TurnEnded: LoadSession._ended,
}
