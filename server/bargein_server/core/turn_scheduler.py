"""Turn scheduler: the current turn of a session, and the waiting ones.

At most one turn is *current*. It has its id from the step in which its input was accepted, and runs
as soon as the server has a permit for it and the cleanups of earlier turns allow it (contract 5).
`end` is the fence: in one step it purges waiting output, numbers the one `turn.ended` and asks the
host to cancel the task (contracts 1 to 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bargein_protocol import (
    Heard,
    InputAccepted,
    InputId,
    InputQueued,
    InputRejected,
    InputText,
    RewindId,
    Seq,
    SessionRewound,
    TurnEnded,
    TurnEvent,
    TurnHeld,
    TurnId,
    TurnResumed,
    TurnStarted,
)
from bargein_protocol.errors import AT_CAPACITY, BUSY, QUEUE_FULL, UNSUPPORTED, Code
from bargein_protocol.types import MAX_TURNS

from ..settings import Settings
from . import CancelTurn, Command, StartTurn
from .lifecycle import Effect, Event, Stage
from .observer import NO_OBSERVER, Observer
from .sequencer import Sequencer
from .turn_limiter import Permit
from .turn_record import CLIENT_GONE, REWOUND, SUPERSEDED, Ending, TurnRecord, first_to_shrink, record_size

E = TypeVar("E", bound=TurnEvent)
InputAnswer = InputAccepted | InputQueued | InputRejected

# Delay before a client should ask a full server again: turns last seconds, not minutes.
RETRY_AFTER_S = 5.0


class TurnScheduler:
    """Schedules the turns of one session.

    Attributes:
        current: The turn that runs, or is the next to run; None when there is none.
        last: The turn that ended last; None before the first end.
        turns: Every remembered turn by its id, oldest first.
        by_input: Every remembered turn by the id of its input.
        permit: The session's permit of the server's limit on running turns.
        commands: Commands for the host.
        now: The time of the current step, in seconds.
        observer: Is notified of every turn and its end.
    """

    __slots__ = (
        "_cleaning",
        "_kept",
        "_new_id",
        "_sequencer",
        "_settings",
        "_waiting",
        "by_input",
        "commands",
        "current",
        "last",
        "now",
        "observer",
        "permit",
        "turns",
    )  # fmt: skip

    def __init__(
        self,
        sequencer: Sequencer,
        settings: Settings,
        permit: Permit,
        new_id: Callable[[], TurnId],
        observer: Observer = NO_OBSERVER,
    ) -> None:
        self.permit = permit
        self.current: TurnRecord | None = None
        self.last: TurnRecord | None = None
        self.turns: dict[TurnId, TurnRecord] = {}
        self.by_input: dict[InputId, TurnRecord] = {}
        self.commands: list[Command] = []
        self.now = 0.0
        self._sequencer = sequencer
        self._settings = settings
        self._new_id = new_id
        self.observer = observer
        self._waiting: list[TurnRecord] = []  # a few; an empty deque would take 0.7 KiB in every session
        self._cleaning: set[TurnId] = set()
        self._kept = 0

    @property
    def kept_bytes(self) -> int:
        """Approximate size of the history and of the inputs that wait."""
        return self._kept + sum(turn.input_bytes for turn in self._waiting)

    # --- the start of a turn ----------------------------------------------------------------------

    def schedule(self, event: InputText) -> InputAnswer:
        """Give an input a turn or refuse it; the answer of a turn is numbered."""
        current = self.current
        if current is None:
            if not self.permit.room:
                return _rejected(event, AT_CAPACITY, int(RETRY_AFTER_S * 1000))
            return self._accept(event, False)
        policy = event.on_busy or self._settings.on_busy
        if policy == "reject":
            return _rejected(event, BUSY)
        if policy == "queue":
            if len(self._waiting) >= self._settings.max_queued_inputs or not self.permit.affordable:
                return _rejected(event, QUEUE_FULL)
            return self._enqueue(TurnRecord(self._new_id(), event, False))
        self.observer.turn_cut(current)
        if not current.guarded:
            self.end(current, SUPERSEDED)
            return self._accept(event, True)
        self.defer(current, SUPERSEDED)
        if self._waiting and self._waiting[0].barges_in:
            self.end(self._waiting[0], SUPERSEDED)
        return self._enqueue(TurnRecord(self._new_id(), event, True), in_front=True)

    def accept_cancelled(self, event: InputText, ending: Ending) -> InputAnswer:
        """Accept an input that was interrupted early; its turn does not start."""
        turn = TurnRecord(self._new_id(), event, False)
        self._remember(turn)
        answer = self._number(turn, InputAccepted(turn_id=turn.id, input_id=event.id))
        self._waiting.insert(0, turn)
        self.end(turn, ending)
        return answer

    def start_next(self) -> None:
        """Start the next waiting turn when permit and cleanups allow it.

        The turn becomes the current one in any case.
        """
        turn = self.current
        if turn is None:
            if not self._waiting:
                self.permit.drop()
                return
            turn = self.current = self._waiting.pop(0)
            if self.permit.contested and not turn.barges_in:
                self.permit.drop()  # the turn queues anew, behind the waiting sessions
        limits = self._settings
        overlapping = 0 if limits.cleanup == "wait" else limits.max_overlapping_cleanups
        if (
            turn.stage is Stage.QUEUED
            and len(self._cleaning) <= overlapping
            and (self.permit.held or self.permit.take())
        ):
            turn.take_up()
            turn.advance(Event.START)
            self.turns[turn.id] = self.turns.pop(turn.id)  # history has the order of the starts
            turn.progress_at = self.now
            if limits.turn_s:
                turn.due_at = self.now + limits.turn_s
            self._number(turn, TurnStarted(turn_id=turn.id, input_id=turn.input.id))
            self.commands.append(StartTurn(turn.id))

    def cleaned_up(self, turn_id: TurnId) -> None:
        """Record that the task of an ended turn has ended or was abandoned."""
        if turn_id in self._cleaning:
            self._cleaning.remove(turn_id)
            # Here and not in `end`, which writes the frame of an end before all work that can wait.
            self._forget_old(self.turns[turn_id])
        self.start_next()

    def turns_since(self, seq: Seq) -> list[TurnRecord]:
        """Return the turns of a snapshot for a client that has a number.

        All turns that have not ended are included: to the client a missing turn is over.
        """
        return [
            turn for turn in self.turns.values() if turn.fold.last_seq > seq or turn.stage is not Stage.ENDED
        ]

    def cleans(self, turn_id: TurnId) -> bool:
        """Return whether the task of an ended turn is still cleaning up."""
        return turn_id in self._cleaning

    def _accept(self, event: InputText, barges_in: bool) -> InputAccepted | InputQueued:
        turn = self.current = TurnRecord(self._new_id(), event, barges_in)
        self._remember(turn)
        answer: InputAccepted | InputQueued
        if self.permit.take():
            answer = self._number(turn, InputAccepted(turn_id=turn.id, input_id=event.id))
        else:
            position = self.permit.position
            answer = self._number(turn, InputQueued(turn_id=turn.id, input_id=event.id, position=position))
            turn.progress_at = self.now
            turn.put_aside()
        self.start_next()
        return answer

    def _enqueue(self, turn: TurnRecord, in_front: bool = False) -> InputQueued:
        self._remember(turn)
        turn.put_aside()
        position = 1 if in_front else len(self._waiting) + 1
        self._waiting.insert(position - 1, turn)
        return self._number(turn, InputQueued(turn_id=turn.id, input_id=turn.input.id, position=position))

    # --- the end of a turn -----------------------------------------------------------------------

    def end(self, turn: TurnRecord, ending: Ending, *, at_once: bool = False) -> None:
        """Close the fence and number the turn's one end.

        The caller must call `start_next` afterwards.

        Args:
            turn: The turn.
            ending: Its status and reason.
            at_once: Whether to hand the end over before the records are updated, because a client
                waits for it.
        """
        effects = turn.advance(Event.END)
        if turn.queued_bytes:
            turn.purge(spare_sections=False)
        turn.sections, turn.deferred, turn.held_until = 0, None, None
        if turn.calls is not None:
            turn.calls.close(turn.fold)
        lane, position, sequencer = turn.fold.main_lane, turn.heard_position, self._sequencer
        taken = sequencer.taken_of(turn) if at_once else None
        if taken is not None and not lane.audio and not position.reported:
            # The usual interrupt of a turn that is writing text: a live socket took all of it, so the
            # records need not be updated before the end is written.
            last, heard = taken, Heard(seq=taken, text=str(lane.text), audio_ms=0)
        else:
            sequencer.settle()
            last, heard = turn.fold.last_output_seq, position.heard(lane)
        event = TurnEnded(
            turn_id=turn.id,
            status=ending.status,
            reason=ending.reason,
            last_seq=last,
            heard=heard,
            usage=turn.usage,
            retryable=ending.retryable,
        )
        sequencer.number(event, at_once)
        turn.fold.apply(event)
        ran = Effect.CANCEL_TASK in effects
        self.observer.turn_ended(turn, event, ran)
        if ran:
            self._cleaning.add(turn.id)
            self.commands.append(CancelTurn(turn.id, ending.reason))
        else:
            self._forget_old(turn)
        if turn is self.current:
            self.current = None
        else:
            self._waiting.remove(turn)
        self.last = turn

    def end_all(self, ending: Ending) -> None:
        """End the current turn and all waiting turns."""
        for turn in [self.current, *self._waiting]:
            if turn is not None:
                self.end(turn, ending)
        self.permit.drop()

    def rewind(self, first: TurnRecord, rewind_id: RewindId) -> SessionRewound | Code:
        """Drop a turn and all later ones, which end now.

        Returns:
            The numbered event, or the code of the refusal: a section protects one of them, or they are
            too many for one event. Then nothing has changed.
        """
        order = list(self.turns.values())
        dropped = [turn for turn in order[order.index(first) :] if not turn.fold.dropped]
        if any(turn.guarded for turn in dropped):
            return BUSY
        if len(dropped) > MAX_TURNS:
            return UNSUPPORTED
        for turn in dropped:
            if turn.stage is not Stage.ENDED:
                self.observer.turn_cut(turn)
                self.end(turn, REWOUND)
        event = SessionRewound(rewind_id=rewind_id, turns=[turn.id for turn in dropped])
        event = self._sequencer.number(event)
        for turn in dropped:
            turn.fold.drop(event.seq)
            self.touched(turn.id)
            if turn.kept_bytes:
                self._kept -= turn.kept_bytes
                turn.kept_bytes = record_size(turn)
                self._kept += turn.kept_bytes
        self.start_next()
        return event

    def defer(self, turn: TurnRecord, ending: Ending) -> None:
        """End a turn after its section; the purge spares the section's output."""
        if turn.deferred is None:
            turn.deferred = ending
        self._carry_out(turn, turn.advance(Event.CUT))

    def release(self, turn: TurnRecord) -> None:
        """Carry out the deferred request if the turn's section is over."""
        if turn.section_over:
            self._carry_out(turn, turn.advance(Event.RELEASE))

    def client_gone(self) -> None:
        """End all turns, because the client did not return in time."""
        self.end_all(CLIENT_GONE)

    # --- holds -----------------------------------------------------------------------------------

    def hold(self, turn: TurnRecord) -> None:
        """Stop a turn's output, now or when its section is over."""
        self._carry_out(turn, turn.advance(Event.HOLD))

    def resume(self, turn: TurnRecord) -> None:
        """Resume the output of a held turn."""
        self._carry_out(turn, turn.advance(Event.RESUME))

    def _carry_out(self, turn: TurnRecord, effects: tuple[Effect, ...]) -> None:
        for effect in effects:
            if effect is Effect.PURGE_UNPROTECTED:
                turn.purge(spare_sections=True)
            elif effect is Effect.REPORT_HELD:
                turn.held_until = self.now + self._settings.hold_s
                if turn.paused_since is None:
                    turn.paused_since = self.now
                self._number(turn, TurnHeld(turn_id=turn.id))
            elif effect is Effect.REPORT_RESUMED:
                turn.held_until = None
                turn.progress_at = self.now
                self._number(turn, TurnResumed(turn_id=turn.id))
            elif effect is Effect.END_TURN:
                assert turn.deferred is not None
                self.end(turn, turn.deferred)
                self.start_next()

    # --- records ---------------------------------------------------------------------------------

    def touched(self, turn_id: TurnId) -> None:
        """Record for the store that a turn's record has changed."""
        changes = self._sequencer.changes
        if changes is not None:
            changes.touch(turn_id)

    def restore(self, turn: TurnRecord) -> None:
        """Add a stored turn; the caller ends those that were open."""
        self.turns[turn.id] = self.by_input[turn.input.id] = turn
        if turn.stage is Stage.ENDED:
            self.last = turn
            turn.kept_bytes = record_size(turn)
            self._kept += turn.kept_bytes
        else:
            self._waiting.append(turn)
            self.observer.turn_asked(turn)

    def _number(self, turn: TurnRecord, event: E) -> E:
        numbered = self._sequencer.number(event)
        turn.fold.apply(numbered)
        return numbered

    def _remember(self, turn: TurnRecord) -> None:
        self.turns[turn.id] = turn
        self.by_input[turn.input.id] = turn
        self.observer.turn_asked(turn)

    def _forget_old(self, ended: TurnRecord) -> None:
        ended.fold.pack()
        ended.drop_metadata()
        ended.kept_bytes = record_size(ended)
        self._kept += ended.kept_bytes
        most_turns, most_chars = self._settings.max_history_turns, self._settings.max_history_chars
        while len(self.turns) > most_turns or self._kept > most_chars:
            # A turn that has waited for long may stand before others that can be dropped. A turn that is
            # cleaning up still reads its history, or the host has not even started it.
            over = [turn for turn in self.turns.values() if turn.stage is Stage.ENDED and turn is not ended]
            turn = first_to_shrink([turn for turn in over if turn.id not in self._cleaning])
            if turn is None:
                break
            self._kept -= turn.kept_bytes
            if turn.forget_files():
                self._kept += turn.kept_bytes
                self.touched(turn.id)
                continue
            del self.turns[turn.id]
            if self.by_input.get(turn.input.id) is turn:  # another turn may have reused the id
                del self.by_input[turn.input.id]
            if self._sequencer.changes is not None:
                self._sequencer.changes.forget(turn.id)


def _rejected(event: InputText, code: Code, retry_after_ms: int | None = None) -> InputRejected:
    return InputRejected(input_id=event.id, code=code.name, retry_after_ms=retry_after_ms)
