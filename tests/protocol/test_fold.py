from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import golden_vectors as wire
from bargein_protocol import (
    AgentOutput,
    AudioDelta,
    CallId,
    Data,
    InputAccepted,
    InputId,
    NumberedEvent,
    Seq,
    StepEnded,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    TurnEnded,
    TurnEvent,
    TurnFold,
    TurnId,
    TurnState,
    UnknownEvent,
)
from bargein_protocol import (
    fold as fold_module,
)

TURN = TurnId("t_1")
DURING = [s for s in get_args(NumberedEvent) if issubclass(s, TurnEvent) and s is not TurnEnded]


@st.composite
def turns(draw: st.DrawFn) -> list[TurnEvent]:
    """Return a turn's events, numbered upwards, with or without its end."""
    bare = draw(st.lists(wire.any_event(*DURING, UnknownEvent), max_size=12))
    if draw(st.booleans()):
        bare.append(draw(wire.any_event(TurnEnded)))
    events: list[TurnEvent] = []
    seq = 0
    for event in bare:
        last_seq = seq
        seq += draw(st.integers(1, 3))
        changes: dict[str, Any] = {"seq": Seq(seq), "turn_id": TURN}
        if isinstance(event, TurnEnded):
            changes["last_seq"] = Seq(last_seq)
        if isinstance(event, (ToolCall, ToolCallDelta, ToolResult)):
            changes["call_id"] = CallId(draw(st.sampled_from(["c_1", "c_2"])))
        events.append(replace(event, **changes))
    return events


def fold_of(events: list[TurnEvent], max_chars: int = 1000) -> TurnFold:
    """Fold events in order."""
    fold = TurnFold(TURN, max_chars=max_chars)
    for event in events:
        assert fold.apply(event)
    return fold


# --- folding -----------------------------------------------------------------------------------


@wire.QUICK
@given(events=turns(), data=st.data())
def test_a_replay_changes_nothing(events: list[TurnEvent], data: st.DataObject) -> None:
    """Events that come again, at any time and in any number, are ignored."""
    once, again = fold_of(events), TurnFold(TURN, max_chars=1000)
    for index, event in enumerate(events):
        assert again.apply(event)
        start = data.draw(st.integers(0, index))
        assert not any(again.apply(old) for old in events[start : index + 1])
    assert again.folded() == once.folded()
    assert again.last_seq == (events[-1].seq if events else 0)


@wire.QUICK
@given(events=turns(), data=st.data())
def test_a_fold_goes_on_from_a_snapshot(events: list[TurnEvent], data: st.DataObject) -> None:
    """A client that got a snapshot and the rest knows what one knows that saw everything."""
    cut = data.draw(st.integers(0, len(events)))
    snapshot = fold_of(events[:cut]).folded()
    sent = msgspec.json.encode(snapshot)
    fold = TurnFold.unfold(msgspec.json.decode(sent, type=TurnState))
    assert fold.folded() == snapshot
    for event in events[cut:]:
        fold.apply(event)
    whole = fold_of(events)
    assert fold.folded() == whole.folded()
    assert fold.ended == whole.ended
    assert fold.last_output_seq == whole.last_output_seq


@wire.QUICK
@given(events=turns(), data=st.data())
def test_folded_state_stays_as_it_is(events: list[TurnEvent], data: st.DataObject) -> None:
    """Neither the fold that it came from nor one that goes on from it changes a snapshot."""
    fold = fold_of(events[: data.draw(st.integers(0, len(events)))])
    state = fold.folded()
    before = msgspec.json.encode(state)
    other = TurnFold.unfold(state)
    for event in events:
        fold.apply(event)
        other.apply(event)
    assert msgspec.json.encode(state) == before


def test_a_call_goes_on_beside_the_snapshot() -> None:
    """A call that goes on after a snapshot is not changed inside it."""
    call = ToolCall(seq=Seq(1), turn_id=TURN, call_id=CallId("c_1"), name="look")
    result = ToolResult(seq=Seq(2), turn_id=TURN, call_id=CallId("c_1"), status="completed")
    state = fold_of([call]).folded()
    fold = TurnFold.unfold(state)
    assert fold.apply(result)
    assert state.lanes[""].tools[0].state == "called"
    assert fold.folded().lanes[""].tools[0].state == "completed"


def test_what_a_snapshot_brings_counts_as_one_event() -> None:
    """Going on from a snapshot, its text came with the last number before the end."""
    events: list[TurnEvent] = [
        TextDelta(seq=Seq(1), turn_id=TURN, text="ab"),
        AudioDelta(seq=Seq(2), turn_id=TURN, audio=b"", start_ms=0, duration_ms=20),
        TextDelta(seq=Seq(3), turn_id=TURN, text="c"),
    ]
    lane = TurnFold.unfold(fold_of(events).folded()).main_lane
    assert (lane.text.chars_at(2), lane.text.chars_at(3)) == (0, 3)
    assert lane.audio_seqs == [3]


def test_text_appended_to_the_main_lane_itself() -> None:
    """Text that skips the events gives the same state, once its last number is noted."""
    short = TurnFold(TURN)
    for seq, text in ((1, "a"), (4, "b")):
        assert short.main_lane.text.append(text, seq)
        short.last_seq = short.last_output_seq = Seq(seq)
    long = fold_of(
        [TextDelta(seq=Seq(1), turn_id=TURN, text="a"), TextDelta(seq=Seq(4), turn_id=TURN, text="b")]
    )
    assert short.folded() == long.folded()
    assert short.last_output_seq == 4
    assert not short.apply(TextDelta(seq=Seq(4), turn_id=TURN, text="b"))


def test_a_duplicate_answer_is_ignored() -> None:
    """A copy without a number never counts, not even as the first event."""
    fold = TurnFold(TURN)
    assert not fold.apply(InputAccepted(turn_id=TURN, input_id=InputId("in_1"), duplicate=True))
    assert fold.folded() == TurnFold(TURN).folded()


def test_an_event_of_another_turn_is_refused() -> None:
    """A fold is of one turn, and says which it expected."""
    with pytest.raises(ValueError, match="expected an event of turn t_1, got one of t_2"):
        TurnFold(TURN).apply(TextDelta(seq=Seq(1), turn_id=TurnId("t_2"), text="x"))


def test_every_event_of_a_turn_can_be_folded() -> None:
    """No output is without its fold."""
    assert set(fold_module._FOLDS) == set(get_args(AgentOutput))


def test_packing_changes_nothing() -> None:
    """A fold that was packed shows the same, and goes on."""
    fold = TurnFold(TURN)
    for seq, text in enumerate(("a", "b"), 1):
        fold.apply(TextDelta(seq=Seq(seq), turn_id=TURN, text=text))
    before = fold.folded()
    fold.pack()
    assert fold.folded() == before
    assert fold.apply(TextDelta(seq=Seq(3), turn_id=TURN, text="c"))
    assert str(fold.main_lane.text) == "abc"


def test_calls_are_of_one_step_until_it_ends() -> None:
    """The calls of one answer of a model stand together."""
    calls = [ToolCall(call_id=CallId(f"c_{n}"), name="look") for n in range(3)]
    outputs: list[Any] = [*calls[:2], StepEnded(index=0, kind="tools"), calls[2]]
    lane = fold_of(
        [replace(output, seq=Seq(1 + n), turn_id=TURN) for n, output in enumerate(outputs)]
    ).main_lane
    first, second, third = (lane.tools[call.call_id] for call in calls)
    assert lane.same_step(first, second)
    assert not lane.same_step(second, third)


# --- bounds ------------------------------------------------------------------------------------


def test_a_fold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the bounds of a snapshot is left out; what is known goes on."""
    for bound in ("MAX_TOOLS", "MAX_SPANS", "MAX_KEYS", "MAX_LANES"):
        monkeypatch.setattr(fold_module, bound, 2)
    monkeypatch.setattr(fold_module, "MAX_TEXT_CHARS", 3)
    outputs: list[Any] = [
        *(ToolCall(call_id=CallId(f"c_{n}"), name="look") for n in range(3)),
        *(ToolCallDelta(call_id=CallId("c_1"), arguments="ab") for _ in range(3)),
        ToolResult(call_id=CallId("c_1"), status="completed"),
        *(AudioDelta(audio=b"", start_ms=n, duration_ms=1) for n in range(3)),
        *(Data(name=f"n{n}", value=n) for n in range(3)),
        Data(name="n0", value="new"),
        *(TextDelta(source=f"voice {n}", text="abcdef") for n in range(3)),
        TextDelta(text="abcdef"),
    ]
    events = [replace(output, seq=Seq(1 + n), turn_id=TURN) for n, output in enumerate(outputs)]
    fold = fold_of(events, max_chars=4)
    lane = fold.main_lane.folded()
    assert [(tool.call_id, tool.arguments, tool.state) for tool in lane.tools] == [
        ("c_0", "", "called"),
        ("c_1", "aba", "completed"),
    ]
    assert [span.start_ms for span in lane.audio] == [0, 1]
    assert lane.data == {"n0": "new", "n1": 1}
    assert {source: str(lane.text) for source, lane in fold.lanes.items()} == {"": "abcd", "voice 0": "abcd"}
    assert fold.last_seq == len(events)
