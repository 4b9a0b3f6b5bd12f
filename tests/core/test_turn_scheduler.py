"""The turns of a session: who has the floor, who waits, and how it passes on."""

from __future__ import annotations

import tracemalloc
from itertools import count

import pytest

from bargein_protocol import JSON, Epoch, InputId, InputText, OnBusy, TurnId
from bargein_server.core import CancelTurn, StartTurn
from bargein_server.core.lifecycle import Event, Flow, Misuse, Stage
from bargein_server.core.replay_log import MemoryLog
from bargein_server.core.sequencer import Sequencer
from bargein_server.core.turn_limiter import Permit, TurnLimiter
from bargein_server.core.turn_record import (
    CLIENT_GONE,
    COMPLETED,
    SHUTDOWN,
    SUPERSEDED,
    TurnRecord,
)
from bargein_server.core.turn_scheduler import InputAnswer, TurnScheduler
from bargein_server.settings import Settings


class Floor:
    """A table and its inputs."""

    def __init__(self, **settings: object) -> None:
        ids = count(1)
        self.stream = Sequencer(Epoch("e"), MemoryLog(1000, 100_000), JSON)
        self.table = TurnScheduler(
            self.stream,
            Settings(**settings),  # type: ignore[arg-type]
            Permit(TurnLimiter(1000, 0), lambda: None),
            lambda: TurnId(f"t{next(ids)}"),
        )
        self._inputs = count(1)

    def ask(self, on_busy: OnBusy | None = None, **metadata: object) -> TurnRecord:
        answer = self.answer(on_busy, **metadata)
        return self.table.turns[answer.turn_id]  # type: ignore[union-attr]

    def answer(self, on_busy: OnBusy | None = None, **metadata: object) -> InputAnswer:
        asked = InputText(
            id=InputId(f"i{next(self._inputs)}"), text="x", on_busy=on_busy, metadata=metadata or None
        )
        return self.table.schedule(asked)

    def end(self, turn: TurnRecord) -> None:
        """End a turn as its agent's return does."""
        turn.advance(Event.FINISH)
        self.table.end(turn, COMPLETED)
        self.table.start_next()

    def running(self) -> list[str]:
        return [turn.id for turn in self.table.turns.values() if turn.stage is Stage.RUNNING]


def protect(turn: TurnRecord, sections: int = 1) -> None:
    """Open sections, as a session does."""
    for _ in range(sections):
        turn.advance(Event.PROTECT)
        turn.sections += 1


def test_the_floor_passes_in_the_order_of_the_inputs() -> None:
    """One runs, the others wait, each has its id from the start."""
    floor = Floor()
    turns = [floor.ask("queue") for _ in range(3)]
    for turn in turns:
        assert floor.running() == [turn.id]
        floor.end(turn)
    assert (floor.table.current, floor.table.last) == (None, turns[-1])


def test_a_turn_without_an_agent_asks_for_no_cancel() -> None:
    """Only a turn that runs has a task."""
    floor = Floor()
    running, waiting = floor.ask(), floor.ask("queue")
    for turn in (waiting, running):
        floor.table.end(turn, SUPERSEDED)
    assert floor.table.commands == [StartTurn(running.id), CancelTurn(running.id, "superseded")]


@pytest.mark.parametrize(("cleanup", "beside"), [("overlap", 1), ("wait", 0)])
def test_a_turn_starts_beside_so_many_cleanups(cleanup: str, beside: int) -> None:
    """More than one old cleanup, or any when turns share state, must be over first (contract 5)."""
    floor = Floor(cleanup=cleanup, max_overlapping_cleanups=1)
    interrupted = []
    while True:
        turn = floor.ask()
        if turn.stage is not Stage.RUNNING:
            break
        interrupted.append(turn)
    assert len(interrupted) == beside + 1
    floor.table.cleaned_up(TurnId("none"))
    assert floor.running() == []
    floor.table.cleaned_up(interrupted[0].id)
    assert floor.running() == [turn.id]


def test_a_cleanup_that_is_over_twice_counts_once() -> None:
    """A second report makes no room."""
    floor = Floor(max_overlapping_cleanups=1)
    first, _, third = floor.ask(), floor.ask(), floor.ask()
    floor.table.cleaned_up(first.id)
    floor.table.cleaned_up(first.id)
    assert floor.running() == [third.id]
    floor.ask()
    floor.table.cleaned_up(first.id)
    assert floor.running() == []


def test_a_turn_that_waits_for_a_cleanup_has_the_floor() -> None:
    """An input that interrupts ends it, one that queues waits behind it."""
    floor = Floor(cleanup="wait")
    floor.ask()
    accepted = floor.ask()
    assert (floor.table.current, accepted.stage) == (accepted, Stage.QUEUED)
    waiting = floor.ask("queue")
    newer = floor.ask()
    assert (accepted.stage, floor.table.current) == (Stage.ENDED, newer)
    assert waiting.stage is Stage.QUEUED


def test_ending_all_ends_each_once_and_nothing_starts() -> None:
    """The current one first, then those that wait, in order."""
    floor = Floor()
    turns = [floor.ask(), floor.ask("queue"), floor.ask("queue")]
    floor.table.end_all(SHUTDOWN)
    assert [turn.fold.ended.reason for turn in turns if turn.fold.ended] == ["shutdown"] * 3
    assert [turn.fold.last_seq for turn in turns] == sorted(turn.fold.last_seq for turn in turns)
    assert (floor.running(), floor.table.current, floor.table.last) == ([], None, turns[-1])
    floor.table.client_gone()
    floor.table.cleaned_up(turns[0].id)
    assert floor.running() == []


def test_a_turn_cannot_end_twice() -> None:
    """The second end raises, and neither a number nor a command is made."""
    floor = Floor()
    turn = floor.ask()
    floor.table.end(turn, SUPERSEDED)
    before = (floor.stream.top, list(floor.table.commands))
    with pytest.raises(Misuse):
        floor.table.end(turn, CLIENT_GONE)
    assert (floor.stream.top, floor.table.commands) == before


def test_the_end_forgets_sections_and_holds() -> None:
    """Nothing of a turn is due or protected after its end."""
    floor = Floor()
    turn = floor.ask()
    floor.table.hold(turn)
    protect(turn, 2)
    turn.put_text("protected")
    turn.deferred = SUPERSEDED
    floor.table.end(turn, SUPERSEDED)
    left = [turn.guarded, turn.held, turn.held_until, turn.deferred, turn.sections, turn.queued_bytes]
    assert left == [False, False, None, None, 0, 0]
    assert turn.flow is Flow.SHUT


def test_the_first_of_two_deferred_endings_holds() -> None:
    """What was answered as deferred is what happens."""
    floor = Floor()
    turn = floor.ask()
    protect(turn)
    floor.table.defer(turn, SUPERSEDED)
    floor.table.defer(turn, CLIENT_GONE)
    turn.sections = 0
    floor.table.release(turn)
    floor.table.release(turn)
    assert turn.fold.ended is not None
    assert turn.fold.ended.reason == "superseded"


def test_a_bounded_queue_has_room_for_one_that_barges_in() -> None:
    """`queue` is refused beyond the bound; the newest input that interrupts replaces the others."""
    floor = Floor(max_queued_inputs=1)
    turn = floor.ask()
    waiting = floor.ask("queue")
    protect(turn)
    barging = [floor.ask() for _ in range(5)]
    assert floor.answer("queue").code == "queue_full"  # type: ignore[union-attr]
    assert [one.stage for one in barging] == [Stage.ENDED] * 4 + [Stage.QUEUED]
    assert waiting.stage is Stage.QUEUED
    assert len(floor.table._waiting) == 2


@pytest.mark.parametrize("policy", ["interrupt", "queue", "reject"])
def test_the_sessions_policy_holds_for_inputs_without_one(policy: OnBusy) -> None:
    """And an input's own wins."""
    types = {"interrupt": "InputAccepted", "queue": "InputQueued", "reject": "InputRejected"}
    floor = Floor(on_busy=policy)
    floor.ask()
    assert type(floor.answer()).__name__ == types[policy]
    for own in types:
        floor = Floor(on_busy=policy)
        floor.ask()
        assert type(floor.answer(own)).__name__ == types[own]  # type: ignore[arg-type]


def test_metadata_is_there_for_the_agent_alone() -> None:
    """A waiting input keeps it encoded, and a turn that is over has none."""
    floor = Floor()
    first, second = floor.ask(a=[[]]), floor.ask("queue", b={"c": []})
    assert (first.input.metadata, second.input.metadata) == ({"a": [[]]}, None)
    floor.end(first)
    assert (first.input.metadata, second.input.metadata) == (None, {"b": {"c": []}})
    floor.end(second)
    assert second.input.metadata is None


def test_waiting_inputs_take_the_memory_of_their_bytes() -> None:
    """Not that of 60,000 lists each, which is twenty times as much."""
    floor = Floor(max_queued_inputs=8)
    floor.ask()
    values: list[list[object]] = [[] for _ in range(60_000)]
    size = len(JSON.encode(InputText(id=InputId("i"), text="x", metadata={"a": values})))
    tracemalloc.start()
    try:
        for _ in range(8):
            copied: list[list[object]] = [[] for _ in values]
            floor.ask("queue", a=copied)
            del copied
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 2 * 8 * size
