"""Registry of open turns, and delivery of their events to consumers.

An interrupt, and an input that is to interrupt, withhold the output of the turns that they are meant to
end. The server's answer decides whether the output is dropped or delivered; see `delivery`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from weakref import WeakSet

import bargein_protocol as bp
from bargein_protocol import InputId, TurnEnded, TurnFold, TurnId

from .delivery import Delivery, Signal
from .errors import ServerViolation
from .events import SessionEvent, TurnSnapshot
from .inbox import Bounds, Inbox
from .tracked_turn import TrackedTurn

_MAX_ENDED = 1024
_MAX_OPEN = 4096
"""Maximum number of open turns: as many as a snapshot may hold."""

OUTCOME_SIGNALS: dict[bp.Outcome, Signal] = {
    "interrupted": Signal.END,
    "already_ended": Signal.END,
    "deferred": Signal.DEFER,
    "unknown_turn": Signal.END,  # the turn ended so long ago that the server has forgotten it
}


class TurnRegistry:
    """All turns between their input and their end.

    Args:
        bounds: Capacity of each inbox.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open: list[TrackedTurn] = []
        self._by_id: dict[TurnId, TrackedTurn] = {}
        self._ended: dict[TurnId, None] = {}
        self._withheld_by: dict[str, list[TrackedTurn]] = {}
        self._subscribers: WeakSet[Inbox] = WeakSet()
        self._history: dict[TurnId, bp.TurnState] = {}
        self._collects_history = False

    def __len__(self) -> int:
        return len(self._open)

    def subscribe(self) -> Inbox:
        """Return a new inbox for every event from now on.

        Events arrive as long as the inbox is referenced.
        """
        inbox = Inbox(self._bounds)
        self._subscribers.add(inbox)
        for turn in self._open:
            if turn.turn_id is not None:
                inbox.set_delivery(turn.turn_id, turn.delivery)
        return inbox

    def publish(self, event: SessionEvent) -> None:
        """Deliver an event to every subscriber."""
        for inbox in self._subscribers:
            inbox.put(event)

    # --- lookup ----------------------------------------------------------------------------------

    @property
    def current(self) -> TrackedTurn | None:
        """The turn that runs or will run next: the oldest one that has not ended."""
        return self._open[0] if self._open else None

    @property
    def open(self) -> Sequence[TrackedTurn]:
        """The turns that have not ended, in the order of their inputs."""
        return self._open

    def by_id(self, turn_id: TurnId) -> TrackedTurn | None:
        """Return the open turn with this id."""
        return self._by_id.get(turn_id)

    def not_queued(self) -> list[TrackedTurn]:
        """Return the turns that an interrupting input is meant to end."""
        return [turn for turn in self._open if not turn.queued]

    def in_flight(self) -> list[TrackedTurn]:
        """Return the open turns that have an id."""
        return [turn for turn in self._open if turn.turn_id is not None]

    def since(self, turn_id: TurnId) -> list[TrackedTurn]:
        """Return the open turns from one on; all of them when that one has ended."""
        first = self._by_id.get(turn_id)
        return self._open[0 if first is None else self._open.index(first) :]

    def of_input(self, input_id: str) -> TrackedTurn | None:
        """Return the open turn of an input."""
        return next((turn for turn in self._open if turn.input_id == input_id), None)

    def is_open(self, turn_id: TurnId) -> bool:
        """Return whether a turn is open under this id."""
        return turn_id in self._by_id

    def check_room(self, turn_id: TurnId) -> None:
        """Check that a turn is open, or may be.

        Raises:
            ServerViolation: Too many others are open.
        """
        if len(self._open) >= _MAX_OPEN and turn_id not in self._by_id:
            raise ServerViolation(f"expected at most {_MAX_OPEN} open turns, got one more")

    def refuse_ended(self, turn_id: TurnId) -> None:
        """Check that a turn has not ended yet.

        Raises:
            ServerViolation: The turn has ended (contract 1: one end).
        """
        if turn_id in self._ended:
            raise ServerViolation(f"expected nothing of turn {turn_id} after its end")

    # --- life of a turn --------------------------------------------------------------------------

    def add(self, input_id: InputId | None, input_text: str | None = None) -> TrackedTurn:
        """Begin to track a turn."""
        turn = TrackedTurn(input_id, self._bounds, input_text)
        self._open.append(turn)
        return turn

    def bind(self, turn_id: TurnId, input_id: InputId | None) -> TrackedTurn:
        """Return the turn with this id: a tracked, the input's, or a new one."""
        turn = self._by_id.get(turn_id)
        if turn is None:
            turn = self.of_input(input_id) if input_id is not None else None
            if turn is None or turn.turn_id is not None:
                turn = self.add(input_id)
            turn.fold.turn_id = turn_id
            self._by_id[turn_id] = turn
            self._apply_delivery(turn)
        return turn

    def deliver(self, turn: TrackedTurn, event: SessionEvent) -> None:
        """Give an event of a turn to its consumer and to every subscriber."""
        turn.inbox.put(event)
        self.publish(event)

    def end(self, turn: TrackedTurn, ended: TurnEnded) -> None:
        """Deliver the end of a turn and stop tracking it."""
        turn.fold.ended = ended
        if ended.status == "interrupted" and turn.delivery is not Delivery.PROTECTED:
            # Output that no consumer has taken yet is stale, for every cause of the interrupt.
            self._drop_waiting(turn)
        self.deliver(turn, ended)
        if self._collects_history:
            self._keep(turn.fold.folded())
        self.close(turn)

    def close(self, turn: TrackedTurn) -> None:
        """Stop tracking a turn that ended or whose input was refused."""
        turn.signal(Signal.CLOSE)
        self._open.remove(turn)
        if turn.turn_id is not None:
            del self._by_id[turn.turn_id]
            self._ended[turn.turn_id] = None
            if len(self._ended) > _MAX_ENDED:
                del self._ended[next(iter(self._ended))]

    def forget_ended(self) -> None:
        """Forget the ids of ended turns; another session may use them again."""
        self._ended.clear()

    def lost_end(self, turn: TrackedTurn) -> TurnEnded:
        """Return the end of a turn that the server has lost."""
        last_seq = turn.fold.last_output_seq
        return TurnEnded(
            turn_id=turn.fold.turn_id,
            status="failed",
            reason="session_lost",
            last_seq=last_seq,
            heard=bp.Heard(seq=last_seq, text=turn.text),
            retryable=True,
        )

    # --- history ---------------------------------------------------------------------------------

    @property
    def history(self) -> list[bp.TurnState]:
        """The turns that ended before the session was resumed here, oldest first."""
        return list(self._history.values())

    def collect_history(self) -> None:
        """Keep the turns that end from now on, until `complete_history`."""
        self._collects_history = True

    def complete_history(self) -> None:
        """Keep no more turns: the replay is over."""
        self._collects_history = False

    def forget_history(self, turn_ids: Iterable[TurnId]) -> None:
        """Forget turns that a rewind dropped."""
        for turn_id in turn_ids:
            self._history.pop(turn_id, None)

    def _keep(self, state: bp.TurnState) -> None:
        if self._collects_history and not state.dropped:
            self._history[state.turn_id] = state

    # --- snapshots -------------------------------------------------------------------------------

    def apply_snapshot(self, snapshot: bp.Snapshot) -> list[TrackedTurn]:
        """Replace the client's state by the server's.

        Returns:
            The turns that are over according to the snapshot; the caller ends them.
        """
        over: list[TrackedTurn] = []
        included: set[TurnId] = set()
        for state in snapshot.turns:
            included.add(state.turn_id)
            event = TurnSnapshot(turn_id=state.turn_id, state=state)
            waiting = state.input_id is not None and self.of_input(state.input_id) is not None
            if state.status is not None and not (self.is_open(state.turn_id) or waiting):
                # The turn ended before, or belongs to another client; a view of all turns wants it.
                self._keep(state)
                self._replace(event)
                continue
            turn = self.bind(state.turn_id, state.input_id)
            turn.fold = TurnFold.unfold(state)
            turn.queued = not state.started
            turn.inbox.replace(event)
            self._replace(event)
            if state.status is not None:
                over.append(turn)
        over += [turn for turn in self.in_flight() if turn.turn_id not in included]
        return over

    def _replace(self, event: TurnSnapshot) -> None:
        for inbox in self._subscribers:
            inbox.replace(event)

    # --- interrupts ------------------------------------------------------------------------------

    def withhold(self, turn: TrackedTurn, request_id: str) -> None:
        """Withhold a turn's output until a request to end it is answered.

        The unread output of a turn that has ended is dropped for good: no answer brings it back.
        """
        if turn.over:
            self._drop_waiting(turn)
            return
        self._withheld_by.setdefault(request_id, []).append(turn)
        turn.signal(Signal.WITHHOLD)
        self._apply_delivery(turn)

    def resolve(self, request_id: str, signal: Signal | None, *, queued: bool = True) -> None:
        """Apply the answer to a request that withheld turns.

        Args:
            request_id: The request.
            signal: The answer's effect on the turns; None for a request that was refused.
            queued: Whether the effect includes turns that wait in the queue.
        """
        for turn in self._withheld_by.pop(request_id, ()):
            if turn.over:
                continue
            if signal is not None and (queued or not turn.queued):
                turn.signal(signal)
            if not any(turn in turns for turns in self._withheld_by.values()):
                turn.signal(Signal.RELEASE)
            self._apply_delivery(turn)

    def _apply_delivery(self, turn: TrackedTurn) -> None:
        if turn.turn_id is not None:
            for inbox in self._inboxes(turn):
                inbox.set_delivery(turn.turn_id, turn.delivery)

    def _drop_waiting(self, turn: TrackedTurn) -> None:
        if turn.turn_id is not None:
            for inbox in self._inboxes(turn):
                inbox.drop_output(turn.turn_id)

    def _inboxes(self, turn: TrackedTurn) -> Iterator[Inbox]:
        yield turn.inbox
        yield from self._subscribers
