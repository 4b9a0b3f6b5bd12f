"""Turn that the user's speech holds, ends or lets go on."""

from __future__ import annotations

from bargein_protocol import TurnId

from ..lifecycle import Flow, Stage
from ..sequencer import Sequencer
from ..turn_record import BARGE_IN, TurnRecord
from ..turn_scheduler import TurnScheduler
from .floor import Fact

_GOES_ON = frozenset({Flow.OPEN, Flow.PROTECTED})
_STOPPED = frozenset({Flow.HELD, Flow.HELD_PROTECTED, Flow.HOLD_PENDING, Flow.CUT_PENDING})


class HeldTurn:
    """Turn of a session that speech acts on, by its id.

    A turn is named whenever it is held, so a verdict that comes after its end never touches the next one.

    Attributes:
        id: The turn that speech holds now; None without one.
    """

    __slots__ = ("_sequencer", "_turns", "id")

    def __init__(self, sequencer: Sequencer, turns: TurnScheduler) -> None:
        self._sequencer = sequencer
        self._turns = turns
        self.id: TurnId | None = None

    def sounds(self) -> bool:
        """Return whether the current turn has begun to answer and may be held."""
        turn = self._turns.current
        if turn is None or turn.stage not in (Stage.RUNNING, Stage.FINISHING) or turn.flow in _STOPPED:
            return False
        self._sequencer.settle()
        lane = turn.fold.main_lane
        return bool(lane.audio) or lane.text.length > 0

    def hold(self) -> TurnId:
        """Hold the current turn, now or after its section; return its id."""
        turn = self._turns.current
        assert turn is not None
        self.id = turn.id
        self._turns.hold(turn)
        return turn.id

    def resume(self) -> None:
        """Let the held turn go on."""
        turn, self.id = self._open(self.id), None
        if turn is not None:
            self._turns.resume(turn)

    def end(self, turn_id: TurnId | None) -> None:
        """End a turn by barge-in, now or after its section, if it still runs."""
        turn, self.id = self._open(turn_id), None
        if turn is None:
            return
        self._turns.observer.turn_cut(turn)
        if turn.guarded:
            self._turns.defer(turn, BARGE_IN)
        else:
            self._turns.end(turn, BARGE_IN, at_once=True)
            self._turns.start_next()

    def news(self) -> Fact | None:
        """Return how the held turn ended by itself; None while it is held."""
        if self.id is None:
            return None
        turn = self._open(self.id)
        if turn is None:
            self.id = None
            return Fact.TURN_OVER
        if turn.flow in _GOES_ON:
            self.id = None
            return Fact.LATE
        return None

    def _open(self, turn_id: TurnId | None) -> TurnRecord | None:
        turn = self._turns.turns.get(turn_id) if turn_id is not None else None
        return None if turn is None or turn.stage is Stage.ENDED else turn
