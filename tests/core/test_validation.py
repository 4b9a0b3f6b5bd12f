"""What an agent yields is checked where it yields it, and not where it is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bargein_protocol import (
    JSON,
    AudioDelta,
    CallId,
    Data,
    DecodeError,
    Output,
    Progress,
    Status,
    TextDelta,
    Thought,
    ToolCall,
    TurnEnded,
    TurnId,
)
from bargein_protocol.types import MAX_AUDIO_BYTES
from bargein_server.core.author_code import (
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
    """A custom output."""


class Loud(TextDelta, frozen=True, kw_only=True):
    """A custom text delta."""

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
        (Data(name="n", value=[0] * 65_537), "Data cannot be sent: .*at most 65536 values"),
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


ODD_TIMES = st.integers(-1, 2**53) | st.sampled_from([0.0, 1.5, True, None, "1"])
ODD_AUDIO: st.SearchStrategy[Any] = (
    st.binary(max_size=9)
    | st.binary(max_size=9).map(bytearray)
    | st.binary(max_size=9).map(lambda audio: memoryview(audio))
    | st.sampled_from(["AAAA", "no base64", None, 7, [1]])
)
ODD_TEXT = st.none() | st.text(max_size=4) | st.sampled_from([b"x", 7])


def round_trip(output: Any) -> tuple[Any, int] | None:
    """Return the output as a client decodes it and its frame's size; None when it cannot be sent."""
    try:
        frame = JSON.encode(output)
        return JSON.decode_server(frame), len(frame)
    except UnicodeEncodeError:
        return round_trip(replace(output, text=output.text.encode("utf-8", "replace").decode()))
    except (DecodeError, TypeError, ValueError, OverflowError):
        return None


@given(st.builds(AudioDelta, audio=ODD_AUDIO, start_ms=ODD_TIMES, duration_ms=ODD_TIMES, text=ODD_TEXT))
def test_audio_is_accepted_exactly_when_its_frame_is(output: Any) -> None:
    """It takes no part in the round trip through JSON, which gives the same result."""
    expected = round_trip(output)
    if expected is None:
        with pytest.raises(BadOutput, match="AudioDelta cannot be sent"):
            validated_output(output)
    else:
        copy, size = validated_output(output)
        assert (copy, size) == expected
        assert type(copy) is AudioDelta
        assert type(copy.audio) is bytes


def test_the_frame_of_audio_is_bounded() -> None:
    """The bound is that of the frame, with the audio in base64."""
    around = len(JSON.encode(AudioDelta(audio=b"", start_ms=0, duration_ms=0)))
    most = (MAX_OUTPUT_BYTES - around) // 4 * 3
    _, size = validated_output(AudioDelta(audio=bytes(most), start_ms=0, duration_ms=0))
    assert size == around + most // 3 * 4 <= MAX_OUTPUT_BYTES
    with pytest.raises(BadOutput, match=f"takes {size + 4} bytes, at most {MAX_OUTPUT_BYTES}"):
        validated_output(AudioDelta(audio=bytes(most + 1), start_ms=0, duration_ms=0))
    with pytest.raises(BadOutput, match=rf"length <= {MAX_AUDIO_BYTES} - at `\$.audio`"):
        validated_output(AudioDelta(audio=bytes(MAX_AUDIO_BYTES + 1), start_ms=0, duration_ms=0))


def test_a_buffer_that_is_refilled_after_it_was_yielded_is_sent_as_it_was() -> None:
    """Synthesisers reuse their buffers."""
    buffer = bytearray(b"tone")
    copy, _ = validated_output(AudioDelta(audio=buffer, start_ms=0, duration_ms=0))  # type: ignore[arg-type]
    buffer[:] = b"next"
    assert copy == AudioDelta(audio=b"tone", start_ms=0, duration_ms=0)


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
    copy, _ = validated_output(Data(name="d", value={"deep": ["\ud83d", {"\ude00": "\ud83d\ude00"}]}))
    assert copy == Data(name="d", value={"deep": ["?", {"?": "\U0001f600"}]})


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
