"""The turns that have not ended, and who is told what of them.

An interrupt of this client, and an input that is to interrupt, mute the turns that they are meant to
end. The server's answer decides whether those are silenced for good or go on; see `inbox`.
"""

from __future__ import annotations

from typing import Literal
from weakref import WeakSet

import bargein_protocol as bp
from bargein_protocol import InputId, TurnEnded, TurnFold, TurnId

from .errors import ServerViolation
from .events import SessionEvent, TurnSnapshot
from .inbox import Bounds, Inbox
from .tracked import TrackedTurn

_KEPT_ENDED = 1024

Verdict = Literal["ends", "replaces", "spares", "nothing"]
"""What the answer to a request says of the turns that it was to end: they end; they end unless they
wait in the queue; they go on until a protected section is over, all of which is to be heard; nothing.
"""
VERDICTS: dict[bp.Outcome, Verdict] = {
    "interrupted": "ends",
    "already_ended": "ends",
    "deferred": "spares",
    "unknown_turn": "ends",  # it ended so long ago that the server has forgotten it
}


class TurnTable:
    """Every turn between its input and its end.

    Args:
        bounds: How much waits for one consumer.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open: list[TrackedTurn] = []
        self._by_id: dict[TurnId, TrackedTurn] = {}
        self._ended: dict[TurnId, None] = {}
        self._subscribers: WeakSet[Inbox] = WeakSet()

    def __len__(self) -> int:
        return len(self._open)

    def subscribe(self) -> Inbox:
        """Return a new inbox that gets every event from now on, for as long as it is referenced."""
        inbox = Inbox(self._bounds)
        self._subscribers.add(inbox)
        for turn in self._open:
            self._muffle(turn, inbox)
        return inbox

    def tell(self, event: SessionEvent) -> None:
        """Deliver an event to every subscriber."""
        for inbox in self._subscribers:
            inbox.put(event)

    # --- who runs --------------------------------------------------------------------------------

    def add(self, input_id: InputId) -> TrackedTurn:
        """Begin to track the turn of an input that is about to be sent."""
        turn = TrackedTurn(input_id, self._bounds)
        self._open.append(turn)
        return turn

    def current(self) -> TrackedTurn | None:
        """Return the turn that runs or will run next; the oldest of those that have not ended."""
        return self._open[0] if self._open else None

    def not_queued(self) -> list[TrackedTurn]:
        """Return the turns that an interrupting input is meant to end."""
        return [turn for turn in self._open if not turn.queued]

    def of_input(self, input_id: str) -> TrackedTurn | None:
        """Return the open turn of an input."""
        return next((turn for turn in self._open if turn.input_id == input_id), None)

    def knows(self, turn_id: TurnId) -> bool:
        """Whether the turn is open under this id."""
        return turn_id in self._by_id

    def bind(self, turn_id: TurnId, input_id: InputId | None) -> TrackedTurn:
        """Return the turn with this id; it is new, or that of the input."""
        turn = self._by_id.get(turn_id)
        if turn is None:
            turn = self.of_input(input_id) if input_id is not None else None
            if turn is None or turn.turn_id is not None:
                turn = TrackedTurn(input_id, self._bounds)
                self._open.append(turn)
            turn.fold.turn_id = turn_id
            self._by_id[turn_id] = turn
            for inbox in (turn.inbox, *self._subscribers):
                self._muffle(turn, inbox)
        return turn

    def refuse_ended(self, turn_id: TurnId) -> None:
        """Check that a turn has not ended yet.

        Raises:
            ServerViolation: It has (contract 1: one end).
        """
        if turn_id in self._ended:
            raise ServerViolation(f"expected nothing of turn {turn_id} after its end")

    # --- what happens ----------------------------------------------------------------------------

    def deliver(self, turn: TrackedTurn, event: SessionEvent) -> None:
        """Give an event of a turn to its consumer and to every subscriber."""
        turn.inbox.put(event)
        self.tell(event)

    def end(self, turn: TrackedTurn, ended: TurnEnded) -> None:
        """Deliver the end of a turn and let go of it."""
        turn.fold.ended = ended
        if ended.status == "interrupted" and not turn.spared:
            # Whoever interrupted it: what no one has seen yet is stale.
            for inbox in (turn.inbox, *self._subscribers):
                inbox.drop_output(ended.turn_id)
        self.deliver(turn, ended)
        self.close(turn)

    def close(self, turn: TrackedTurn) -> None:
        """Let go of a turn that ended or whose input was refused."""
        turn.over = True
        self._open.remove(turn)
        if turn.turn_id is not None:
            del self._by_id[turn.turn_id]
            self._ended[turn.turn_id] = None
            if len(self._ended) > _KEPT_ENDED:
                del self._ended[next(iter(self._ended))]

    def replace(self, snapshot: bp.Snapshot) -> list[TrackedTurn]:
        """Put the server's state in place of the client's.

        Returns:
            The turns that are over by it; the caller ends them.
        """
        over: list[TrackedTurn] = []
        told: set[TurnId] = set()
        for state in snapshot.turns:
            told.add(state.turn_id)
            event = TurnSnapshot(turn_id=state.turn_id, state=state)
            waiting = state.input_id is not None and self.of_input(state.input_id) is not None
            if state.status is not None and not (self.knows(state.turn_id) or waiting):
                # It was over before, or is none of ours; consumers that show every turn want it.
                self._replace(event)
                continue
            turn = self.bind(state.turn_id, state.input_id)
            turn.fold = TurnFold.unfold(state)
            turn.queued = not state.started
            turn.inbox.replace(event)
            self._replace(event)
            if state.status is not None:
                over.append(turn)
        over += [turn for turn in self.in_flight() if turn.turn_id not in told]
        return over

    def _replace(self, event: TurnSnapshot) -> None:
        for inbox in self._subscribers:
            inbox.replace(event)

    def lost_end(self, turn: TrackedTurn) -> TurnEnded:
        """Return the end of a turn that the server does not know any more."""
        fold = turn.fold
        heard = bp.Heard(seq=fold.last_output_seq, text=str(fold.main_lane.text))
        return TurnEnded(
            turn_id=fold.turn_id,
            status="failed",
            reason="session_lost",
            last_seq=fold.last_output_seq,
            heard=heard,
            retryable=True,
        )

    def in_flight(self) -> list[TrackedTurn]:
        """Return the turns that the server has named and that have not ended."""
        return [turn for turn in self._open if turn.turn_id is not None]

    def forget_ended(self) -> None:
        """Another session begins; it may use the same ids."""
        self._ended.clear()

    # --- interrupts ------------------------------------------------------------------------------

    def mute(self, turn: TrackedTurn, request_id: str) -> None:
        """Keep a turn's output from its consumers until the request that ends it is answered."""
        if turn.over:
            if turn.turn_id is not None:
                for inbox in (turn.inbox, *self._subscribers):
                    inbox.drop_output(turn.turn_id)
            return
        turn.muters.add(request_id)
        for inbox in (turn.inbox, *self._subscribers):
            self._muffle(turn, inbox)

    def decide(self, request_id: str, verdict: Verdict) -> None:
        """Act on the answer to a request that muted turns."""
        for turn in self._open:
            if request_id not in turn.muters:
                continue
            turn.muters.discard(request_id)
            if verdict == "ends" or (verdict == "replaces" and not turn.queued):
                turn.silenced = True
            turn.spared = turn.spared or verdict == "spares"
            if turn.turn_id is None:
                continue
            for inbox in (turn.inbox, *self._subscribers):
                if turn.muted:
                    self._muffle(turn, inbox)
                else:
                    inbox.release(turn.turn_id)

    def _muffle(self, turn: TrackedTurn, inbox: Inbox) -> None:
        if turn.turn_id is None or not turn.muted:
            return
        inbox.mute(turn.turn_id)
        if turn.silenced:
            inbox.silence(turn.turn_id)
