"""What an agent yields is checked where it yields it, and not where it is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_protocol import (
    JSON,
    AudioDelta,
    CallId,
    Data,
    Output,
    Progress,
    Status,
    TextDelta,
    Thought,
    ToolCall,
    TurnEnded,
    TurnId,
)
from bargein_server.core.validation import (
    MAX_OUTPUT_BYTES,
    TEXT_PIECE,
    BadOutput,
    split_text,
    validated_output,
)
from core_driver import Talk
from golden_vectors import any_event

OUTPUTS = [kind for kind in Output.__subclasses__() if kind.__module__.startswith("bargein_protocol")]


@given(any_event(*OUTPUTS))
def test_every_legal_output_passes_unchanged(output: Any) -> None:
    """The copy is what a client decodes: equal to what was yielded, its size that of the frame."""
    assert validated_output(output) == (output, len(JSON.encode(output)))


@pytest.mark.parametrize("what", [42, b"bytes", ["list"], object(), {"type": "text.delta"}])
def test_what_is_no_output_is_named_by_its_type(what: Any) -> None:
    """The message says what was expected and what came."""
    name = type(what).__name__
    with pytest.raises(BadOutput, match=f"^expected a str or an output of bargein_protocol, got {name}$"):
        validated_output(what)


def test_an_event_that_is_none_of_the_agents_is_refused() -> None:
    """An agent cannot end its turn by yielding `turn.ended`."""
    ended = TurnEnded(turn_id=TurnId("t"), status="completed", reason="x", last_seq=0, heard=None)  # type: ignore[arg-type]
    with pytest.raises(BadOutput, match="got TurnEnded"):
        validated_output(ended)


class Strange(Output, frozen=True, kw_only=True, tag="strange"):
    """An output of somebody's own."""


class Loud(TextDelta, frozen=True, kw_only=True):
    """A text delta of somebody's own."""

    volume: int = 11


def test_an_output_of_an_unknown_type_is_refused() -> None:
    """Clients would not know it, and neither would the fold."""
    with pytest.raises(BadOutput, match="got Strange"):
        validated_output(Strange())


def test_a_struct_derived_from_an_output_is_sent_as_that_output() -> None:
    """It has the same type on the wire."""
    assert validated_output(Loud(text="x"))[0] == TextDelta(text="x")
    talk = Talk()
    assert talk.emit(talk.ask(), Loud(text="x"))
    assert [event.text for event in talk.of(TextDelta)] == ["x"]


def test_an_output_that_is_changed_after_it_was_yielded_is_sent_as_it_was() -> None:
    """The agent's dictionary is its own; what waits, what is folded and what is sent are copies."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    value: dict[str, Any] = {"n": 1}
    talk.emit(turn, Data(name="d", value=value))
    value["n"] = object()
    talk.open = True
    talk.flush()
    assert [event.value for event in talk.of(Data)] == [{"n": 1}]
    assert talk.session.turn(turn).fold.main_lane.data == {"d": {"n": 1}}


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (Status(message="x" * 4097), "Status cannot be sent: .*length <= 4096.*message"),
        (ToolCall(call_id=CallId(""), name="n"), "ToolCall cannot be sent: .*call_id"),
        (Progress(value=2e15), "Progress cannot be sent: .*value"),
        (Progress(value=float("nan")), "Progress cannot be sent: .*value"),
        (Data(name="n", value={1, object}), "Data cannot be sent"),
        (AudioDelta(audio=b"", start_ms=-1, duration_ms=0), "AudioDelta cannot be sent: .*start_ms"),
        (Thought(text=7), "Thought cannot be sent: .*text"),  # type: ignore[arg-type]
    ],
)
def test_an_output_beyond_a_bound_is_named_with_its_field(output: Any, why: str) -> None:
    """The author learns which field of which output, at the `yield`."""
    with pytest.raises(BadOutput, match=why):
        validated_output(output)


def test_the_bounds_themselves_pass() -> None:
    """At the limit is legal."""
    for output in (
        Status(message="x" * 4096),
        Progress(value=1e15),
        AudioDelta(audio=b"", start_ms=0, duration_ms=0),
    ):
        assert validated_output(output)[0] == output


def test_the_whole_frame_is_bounded() -> None:
    """A value of the application has no bound of its own; the frame has one, exactly."""
    around = len(b'{"type":"data","name":"d","value":""}')
    room = MAX_OUTPUT_BYTES - around
    _, size = validated_output(Data(name="d", value="x" * room))
    assert size == MAX_OUTPUT_BYTES
    with pytest.raises(BadOutput, match=f"takes {MAX_OUTPUT_BYTES + 1} bytes, at most {MAX_OUTPUT_BYTES}"):
        validated_output(Data(name="d", value="x" * (room + 1)))


def test_a_value_that_refers_to_itself_or_nests_without_end_is_refused() -> None:
    """It would take the server's stack."""
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(BadOutput, match="Data cannot be sent"):
        validated_output(Data(name="d", value=endless))


def test_a_lone_surrogate_is_replaced() -> None:
    """Half a pair is left behind where two chunks of a model meet; it is no reason to fail a turn."""
    copy, _ = validated_output(Thought(text="half \ud83d", source="\ude00"))
    assert copy == Thought(text="half ?", source="?")
    with pytest.raises(BadOutput, match="Data cannot be sent"):
        validated_output(Data(name="d", value={"deep": "\ud83d"}))


def test_plain_text_with_a_lone_surrogate_is_sent_with_a_mark_in_its_place() -> None:
    """Text is not checked when it is yielded, because it is the frequent case."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "half \ud83d", " and on")
    talk.finish(turn)
    assert [event.text for event in talk.of(TextDelta)] == ["half ?", " and on"]
    assert talk.end_of(turn).heard.text == "half ? and on"
    assert talk.numbers() == [1, 2, 3, 4, 5]


def test_bad_output_changes_nothing() -> None:
    """It raises where it is yielded; nothing was numbered and the turn runs."""
    talk = Talk()
    turn = talk.ask()
    before = talk.mark()
    with pytest.raises(BadOutput):
        talk.emit(turn, Status(message="x" * 4097))
    assert talk.mark() == before
    assert talk.session.turn(turn).queued_bytes == 0
    assert talk.emit(turn, "still here")


@given(st.text(st.sampled_from("ab\U0001f600"), max_size=40).map(lambda text: text * (TEXT_PIECE // 16)))
def test_long_text_is_cut_into_pieces_and_loses_nothing(text: str) -> None:
    """Each piece but the last has the full length."""
    pieces = list(split_text(text))
    assert "".join(pieces) == text
    assert all(len(piece) == TEXT_PIECE for piece in pieces[:-1])
    assert not pieces or 0 < len(pieces[-1]) <= TEXT_PIECE


@pytest.mark.parametrize(("length", "frames"), [(0, 0), (1, 1), (TEXT_PIECE, 1), (TEXT_PIECE + 1, 2)])
def test_text_beyond_a_piece_becomes_several_frames(length: int, frames: int) -> None:
    """So that an interrupt finds a seam; empty text is no frame at all."""
    talk = Talk()
    turn = talk.ask()
    assert talk.emit(turn, "x" * length)
    assert len(talk.of(TextDelta)) == frames
    assert talk.session.turn(turn).fold.main_lane.text.length == length
