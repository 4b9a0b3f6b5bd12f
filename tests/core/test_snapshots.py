"""A snapshot stays within the frame that clients accept."""

from __future__ import annotations

from bargein_protocol import JSON, LaneState, Seq, Snapshot, ToolState, TurnState
from bargein_protocol.types import CallId, TurnId
from bargein_server.core.snapshots import SNAPSHOT_BYTES, bounded_snapshot


def large(name: str, size: int) -> TurnState:
    tool = ToolState(call_id=CallId("c"), name="dump", output="o" * size, state="completed")
    return TurnState(turn_id=TurnId(name), lanes={"": LaneState(text=f"said by {name}", tools=[tool])})


def test_a_snapshot_at_its_bound_is_whole() -> None:
    """One byte more, and the oldest turn is told without its tool's output; its text is kept."""
    turns = [large("old", 1000), large("new", 1000)]
    size = sum(len(JSON.encode(Snapshot(through=Seq(7), turns=[turn]))) for turn in turns)
    assert bounded_snapshot(Seq(7), turns, size).turns == turns
    old, new = bounded_snapshot(Seq(7), turns, size - 1).turns
    assert old.cut
    assert (old.lanes[""].text, old.lanes[""].tools[0].output) == ("said by old", None)
    assert (old.lanes[""].tools[0].name, old.lanes[""].tools[0].state) == ("dump", "completed")
    assert new == turns[1]


def test_as_many_turns_are_cut_as_need_be() -> None:
    """From the oldest on, until the frame fits."""
    snapshot = bounded_snapshot(Seq(7), [large(str(n), 1000) for n in range(10)], 5000)
    assert len(JSON.encode(snapshot)) <= 5000
    cut = [turn.cut for turn in snapshot.turns]
    assert cut == sorted(cut, reverse=True)
    assert 0 < cut.count(False) < 10


def test_the_default_is_what_the_protocol_says() -> None:
    """8 MiB."""
    snapshot = bounded_snapshot(Seq(7), [large(str(n), 1024 * 1024) for n in range(9)])
    assert len(JSON.encode(snapshot)) <= SNAPSHOT_BYTES == 8_388_608
