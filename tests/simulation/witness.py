"""What must hold at every moment of a run, as one client sees it."""

from __future__ import annotations

import bargein_protocol as bp
from bargein_client.core import ClientCore
from bargein_client.errors import ServerViolation
from bargein_protocol import ServerEvent, UnknownEvent

from .oracle import Oracle, Truth


class Witness:
    """Holds each frame that a client is given against the truth and against the contract.

    It outlives connections, as the client does.

    Args:
        name: Whose.
        oracle: What is known.

    Attributes:
        truth: The numbered events of the session that the client is in.
        session_id: Its name.
        seq: The last number that came.
        spared: Turns that go on for a while although they were interrupted.
        replaying: Whether the client has not caught up yet.
    """

    def __init__(self, name: str, oracle: Oracle) -> None:
        self.name = name
        self.truth: Truth | None = None
        self.session_id: bp.SessionId | None = None
        self.epoch = bp.Epoch("")
        self.seq = 0
        self.replaying = False
        self.spared: set[bp.TurnId] = set()
        self._oracle = oracle
        self._ended: set[bp.TurnId] = set()
        self._cut: set[bp.TurnId] = set()

    def received(self, frame: bytes, event: ServerEvent | UnknownEvent) -> None:
        """Take a frame, before the client does."""
        oracle = self._oracle
        oracle.answered += 1
        oracle.trace.note(self.name, "receives", frame)
        if isinstance(event, bp.Numbered) and event.seq:
            self._numbered(frame, event)
        elif isinstance(event, bp.SessionOpened):
            self._opened(event)
        elif isinstance(event, bp.Snapshot):
            self._snapshot(event)
        elif isinstance(event, bp.ReplayDone):
            oracle.expect(self.replaying, f"{self.name}: a replay was done that nobody asked for")
            oracle.expect(event.through == self.seq, f"{self.name}: a replay left a hole")
            self.replaying = False
        elif isinstance(event, bp.InterruptResult):
            if event.outcome == "interrupted" and event.turn_id is not None:
                assert self.truth is not None
                oracle.expect(
                    event.turn_id in self.truth.ends, f"{event.turn_id} was interrupted and goes on"
                )
                self._cut.add(event.turn_id)
            elif event.outcome == "deferred" and event.turn_id is not None:
                self.spared.add(event.turn_id)
        elif isinstance(event, (bp.InputAccepted, bp.InputQueued)):
            assert self.truth is not None
            same = self.truth.by_input.get(event.input_id) == event.turn_id
            oracle.expect(same and event.duplicate, f"{event.input_id} was answered with another turn")

    def _opened(self, event: bp.SessionOpened) -> None:
        oracle = self._oracle
        if event.resumed:
            oracle.expect(event.session_id == self.session_id, f"{self.name} resumed another session")
            oracle.expect(event.epoch == self.epoch, f"{self.name} resumed another epoch")
        else:
            self.seq = 0
            self._ended.clear()
            self._cut.clear()
        self.session_id, self.epoch = event.session_id, event.epoch
        self.truth = oracle.truths[event.session_id]
        self.replaying = event.resumed

    def _numbered(self, frame: bytes, event: bp.Numbered) -> None:
        oracle, truth = self._oracle, self.truth
        if truth is None:
            oracle.expect(False, f"{self.name} got a numbered event before its session")
            return
        oracle.expect(event.seq == self.seq + 1, f"{self.name} got number {event.seq} after {self.seq}")
        self.seq = event.seq
        known = truth.was_given(event.seq, frame)
        oracle.expect(known, f"{self.name} got number {event.seq}, and it is not what was logged")
        if not isinstance(event, bp.TurnEvent):
            return
        turn = event.turn_id
        oracle.expect(turn not in self._ended, f"{self.name} got something of {turn} after its end")
        if isinstance(event, bp.TurnEnded):
            self._ended.add(turn)
        elif not self.replaying:
            oracle.expect(turn not in self._cut, f"{self.name} got output of {turn}, which was interrupted")

    def _snapshot(self, event: bp.Snapshot) -> None:
        oracle, truth = self._oracle, self.truth
        assert truth is not None
        oracle.expect(self.replaying, f"{self.name} got a snapshot that nobody asked for")
        oracle.expect(
            self.seq <= event.through <= truth.top, f"{self.name} got a snapshot of {event.through}"
        )
        self.seq = event.through
        for state in event.turns:
            told = truth.fold(state.turn_id, event.through).folded()
            oracle.expect(alike(state, told), f"a snapshot shows {state}, and it was {told}")
            if state.status is not None:
                self._ended.add(state.turn_id)


def alike(one: bp.TurnState, other: bp.TurnState) -> bool:
    """Whether two states are the same, but for what tools did that no frame told of (contract 8)."""
    return (
        (one.input_id, one.started, one.held, one.dropped, one.last_seq, one.last_output_seq)
        == (other.input_id, other.started, other.held, other.dropped, other.last_seq, other.last_output_seq)
        and (one.status, one.reason, one.heard, one.usage)
        == (other.status, other.reason, other.heard, other.usage)
        and _lanes(one) == _lanes(other)
    )


def _lanes(turn: bp.TurnState) -> dict[str, tuple[object, ...]]:
    lanes = {
        source: (lane.text, lane.thoughts, lane.status, lane.progress, lane.steps, lane.audio, lane.data)
        for source, lane in turn.lanes.items()
    }
    return {source: lane for source, lane in lanes.items() if any(lane)}


class WatchedCore(ClientCore):
    """The real core of a client. The server and the network are honest, so nothing violates the protocol."""

    witness: Witness

    def receive(self, event: ServerEvent | UnknownEvent) -> None:
        """Take an event in."""
        try:
            super().receive(event)
        except ServerViolation as violation:
            self.witness._oracle.expect(False, f"{self.witness.name}: {violation}")
            raise
        self.witness._oracle.expect(not self._sequence.duplicates, f"{self.witness.name} got a number twice")
