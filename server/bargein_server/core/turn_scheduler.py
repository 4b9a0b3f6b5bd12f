"""The turns of a session: who has the floor, who waits for it, and how it passes on.

At most one turn is *current*. It has its id from the step in which its input was accepted, and runs
as soon as the server has a slot for it and the cleanup of earlier turns allows: at most one old
cleanup beside it, or none when the agent's turns share state (contract 5). `end` is the fence: in one
step it purges what waits, numbers the one `turn.ended` and asks the shell to cancel the task
(contracts 1 to 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bargein_protocol import (
    InputAccepted,
    InputId,
    InputQueued,
    InputRejected,
    InputText,
    Seq,
    TurnEnded,
    TurnEvent,
    TurnHeld,
    TurnId,
    TurnResumed,
    TurnStarted,
)
from bargein_protocol.errors import AT_CAPACITY, BUSY, QUEUE_FULL, Code

from ..settings import Settings
from .commands import CancelTurn, Command, StartTurn
from .observer import NOBODY, Observer
from .sequencer import Sequencer
from .turn_limiter import Permit
from .turn_record import CLIENT_GONE, SUPERSEDED, Ending, State, Step, TurnRecord

E = TypeVar("E", bound=TurnEvent)
InputAnswer = InputAccepted | InputQueued | InputRejected

# When to ask a full server again: turns end by the second, not by the minute.
RETRY_AFTER_S = 5.0


class TurnScheduler:
    """See the module.

    Attributes:
        current: The turn that has the floor, None when nobody has.
        last: The turn that ended last, None before the first end.
        turns: Every remembered turn, oldest first.
        by_input: The same by the id of the input.
        claim: To one of the slots that the turns of all sessions share.
        commands: What the shell is to do.
        now: The last time that anybody told.
        observer: Is told what becomes of turns.
    """

    __slots__ = (
        "_chars", "_cleaning", "_new_id", "_settings", "_stream", "_waiting", "by_input", "claim", "commands",
        "current", "last", "now", "observer", "turns",
    )  # fmt: skip

    def __init__(
        self,
        stream: Sequencer,
        settings: Settings,
        claim: Permit,
        new_id: Callable[[], TurnId],
        observer: Observer = NOBODY,
    ) -> None:
        self.claim = claim
        self.current: TurnRecord | None = None
        self.last: TurnRecord | None = None
        self.turns: dict[TurnId, TurnRecord] = {}
        self.by_input: dict[InputId, TurnRecord] = {}
        self.commands: list[Command] = []
        self.now = 0.0
        self._stream = stream
        self._settings = settings
        self._new_id = new_id
        self.observer = observer
        self._waiting: list[TurnRecord] = []  # a few; an empty deque would take 0.7 KiB in every session
        self._cleaning: set[TurnId] = set()
        self._chars = 0

    # --- how a turn gets the floor ---------------------------------------------------------------

    def ask(self, event: InputText) -> InputAnswer:
        """Give an input a turn, or say why not. The answer is numbered when there is a turn."""
        current = self.current
        if current is None:
            if not self.claim.room:
                return _rejected(event, AT_CAPACITY, int(RETRY_AFTER_S * 1000))
            return self._accept(event, False)
        policy = event.on_busy or self._settings.on_busy
        if policy == "reject":
            return _rejected(event, BUSY)
        if policy == "queue":
            if len(self._waiting) >= self._settings.max_queued_inputs:
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
        """Accept an input that was interrupted before it came: its turn ends without a start."""
        turn = TurnRecord(self._new_id(), event, False)
        self._remember(turn)
        answer = self._commit(turn, InputAccepted(turn_id=turn.id, input_id=event.id))
        self._waiting.insert(0, turn)
        self.end(turn, ending)
        return answer

    def start_next(self) -> None:
        """Let the next turn have the floor, and start it when the cleanup of others allows."""
        if self.current is None and self._waiting:
            self.current = self._waiting.pop(0)
            if self.claim.contested and not self.current.barges_in:
                self.claim.drop()  # it queues anew, behind the sessions that wait
        turn = self.current
        if turn is None:
            self.claim.drop()
            return
        room = 0 if self._settings.cleanup == "wait" else 1
        if turn.state is State.QUEUED and len(self._cleaning) <= room and self.claim.take():
            turn.advance(Step.START)
            self.turns[turn.id] = self.turns.pop(turn.id)  # history is in the order of the starts
            turn.progress_at = self.now
            self._commit(turn, TurnStarted(turn_id=turn.id, input_id=turn.input.id))
            self.commands.append(StartTurn(turn.id))

    def cleaned_up(self, turn_id: TurnId) -> None:
        """Take note that the task of an ended turn is gone, or given up."""
        if turn_id in self._cleaning:
            self._cleaning.remove(turn_id)
            # Now, and not with its end: nothing that can wait stands before the frame of an end.
            self._forget_old(self.turns[turn_id])
        self.start_next()

    def turns_since(self, seq: Seq) -> list[TurnRecord]:
        """Return the turns that a snapshot tells to who knows everything up to a number.

        One that has not ended is told in any case: what is missing there is over for the client.
        """
        return [
            turn for turn in self.turns.values() if turn.fold.last_seq > seq or turn.state is not State.ENDED
        ]

    def cleans(self, turn_id: TurnId) -> bool:
        """Whether the task of an ended turn still cleans up."""
        return turn_id in self._cleaning

    def _accept(self, event: InputText, barges_in: bool) -> InputAccepted | InputQueued:
        turn = self.current = TurnRecord(self._new_id(), event, barges_in)
        self._remember(turn)
        answer: InputAccepted | InputQueued
        if self.claim.take():
            answer = self._commit(turn, InputAccepted(turn_id=turn.id, input_id=event.id))
        else:
            position = self.claim.position
            answer = self._commit(turn, InputQueued(turn_id=turn.id, input_id=event.id, position=position))
            turn.progress_at = self.now
        self.start_next()
        return answer

    def _enqueue(self, turn: TurnRecord, in_front: bool = False) -> InputQueued:
        self._remember(turn)
        position = 1 if in_front else len(self._waiting) + 1
        self._waiting.insert(position - 1, turn)
        return self._commit(turn, InputQueued(turn_id=turn.id, input_id=turn.input.id, position=position))

    # --- how it loses it -------------------------------------------------------------------------

    def end(self, turn: TurnRecord, ending: Ending, *, at_once: bool = False) -> None:
        """Close the fence and number the turn's one end. The floor is free; `start_next` comes next.

        Args:
            turn: The turn.
            ending: How it ends.
            at_once: Whether somebody waits for nothing but that.
        """
        ran = turn.state is State.RUNNING
        turn.advance(Step.END)
        turn.purge(spare_sections=False)
        turn.sections, turn.deferred, turn.held_until, turn.hold_wanted = 0, None, None, False
        if turn.calls is not None:
            turn.calls.close(turn.fold)
        event = TurnEnded(
            turn_id=turn.id,
            status=ending.status,
            reason=ending.reason,
            last_seq=turn.fold.last_output_seq,
            heard=turn.hearing.heard(turn.fold.main_lane),
            usage=turn.usage,
            retryable=ending.retryable,
        )
        self._stream.commit(event, at_once)
        turn.fold.apply(event)
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
        """End the current turn and all that wait."""
        for turn in [self.current, *self._waiting]:
            if turn is not None:
                self.end(turn, ending)
        self.claim.drop()

    def defer(self, turn: TurnRecord, ending: Ending) -> None:
        """Let a turn end when its section is over; the purge spares the section's output."""
        if turn.deferred is None:
            turn.deferred = ending
        turn.purge(spare_sections=True)
        self.resume(turn)  # a held section could never be over

    def settle(self, turn: TurnRecord) -> None:
        """Do what waited for the end of a section, if the section is over."""
        if turn.guarded or turn.state is State.ENDED:
            return
        if turn.deferred is not None:
            self.end(turn, turn.deferred)
            self.start_next()
        elif turn.hold_wanted:
            turn.hold_wanted = False
            self.hold(turn)

    def client_gone(self) -> None:
        """End everything: nobody came back for it in time."""
        self.end_all(CLIENT_GONE)

    # --- holds -----------------------------------------------------------------------------------

    def hold(self, turn: TurnRecord) -> None:
        """Stop a turn's output, now or when its section is over."""
        if turn.held_until is not None or turn.deferred is not None:
            return
        if turn.guarded:
            turn.hold_wanted = True
            return
        turn.held_until = self.now + self._settings.hold_s
        self._commit(turn, TurnHeld(turn_id=turn.id))

    def resume(self, turn: TurnRecord) -> None:
        """Let a held turn go on."""
        turn.hold_wanted = False
        if turn.held_until is not None:
            turn.held_until = None
            turn.progress_at = self.now
            self._commit(turn, TurnResumed(turn_id=turn.id))

    # --- the books -------------------------------------------------------------------------------

    def _commit(self, turn: TurnRecord, event: E) -> E:
        numbered = self._stream.commit(event)
        turn.fold.apply(numbered)
        return numbered

    def _remember(self, turn: TurnRecord) -> None:
        self.turns[turn.id] = turn
        self.by_input[turn.input.id] = turn
        self.observer.turn_asked(turn)

    def _forget_old(self, ended: TurnRecord) -> None:
        ended.fold.pack()
        ended.kept_chars = _length(ended)
        self._chars += ended.kept_chars
        while self._too_many():
            # One that waits for long stands before others that can go. One that cleans up still reads
            # its history, or was not even started by the shell yet.
            turn = next((turn for turn in self.turns.values() if self._can_go(turn, ended)), None)
            if turn is None:
                break
            self._chars -= turn.kept_chars
            del self.turns[turn.id]
            if self.by_input.get(turn.input.id) is turn:  # not, when the id was used once more
                del self.by_input[turn.input.id]

    def _can_go(self, turn: TurnRecord, ended: TurnRecord) -> bool:
        return turn.state is State.ENDED and turn is not ended and turn.id not in self._cleaning

    def _too_many(self) -> bool:
        limits = self._settings
        return len(self.turns) > limits.max_history_turns or self._chars > limits.max_history_chars


def _length(turn: TurnRecord) -> int:
    """Return about how much a turn's record holds, in characters."""
    length = len(turn.input.text) + _chars(turn.input.metadata)
    for lane in turn.fold.lanes.values():
        length += lane.text.length + lane.thoughts.length + _chars(lane.data)
        if lane.tools:
            length += sum(len(tool.arguments) + _chars(tool.output) for tool in lane.tools.values())
    return length


def _chars(value: object) -> int:
    return len(repr(value)) if value else 0


def _rejected(event: InputText, code: Code, retry_after_ms: int | None = None) -> InputRejected:
    return InputRejected(input_id=event.id, code=code.name, retry_after_ms=retry_after_ms)
