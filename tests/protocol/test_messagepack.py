"""MessagePack: the same events in fewer bytes."""

from __future__ import annotations

import itertools
import json
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden_vectors as wire
from bargein_protocol import (
    JSON,
    MESSAGEPACK,
    AudioDelta,
    AudioSpan,
    Code,
    Data,
    DecodeError,
    LaneState,
    Seq,
    Snapshot,
    TurnId,
    TurnState,
    errors,
)
from bargein_protocol.messagepack_scan import structure_fault
from bargein_protocol.types import MAX_CLIENT_VALUES, MAX_VALUES


@wire.QUICK
@given(event=wire.any_event(*wire.EVENTS["client"], *wire.EVENTS["server"]))
def test_both_codecs_tell_the_same(event: Any) -> None:
    """A frame of MessagePack holds the map that the frame of JSON holds, but for bytes."""

    def plain(value: Any) -> Any:
        return json.loads(msgspec.json.encode(value))

    assert plain(msgspec.msgpack.decode(MESSAGEPACK.encode(event))) == json.loads(JSON.encode(event))


def test_bytes_are_raw() -> None:
    """Audio takes its own size and a short head."""
    audio = bytes(range(256)) * 40
    frame = MESSAGEPACK.encode(AudioDelta(audio=audio, start_ms=0, duration_ms=1))
    assert audio in frame
    assert len(frame) < len(audio) + 80


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (2**64 - 1, 2**64 - 1),
        (2**70, float(2**70)),
        (-(10**400), -sys.float_info.max),
        ({"a": [10**400]}, {"a": [sys.float_info.max]}),
        (b"ab", "YWI="),
        (float("nan"), None),
        ({1: "a"}, {"1": "a"}),
    ],
)
def test_values_of_the_application_are_told_as_in_json(value: Any, told: Any) -> None:
    """What JSON can hold is the same in both; a longer integer than MessagePack has becomes a double."""
    event = MESSAGEPACK.decode_server(MESSAGEPACK.encode(Data(name="n", value=value)))
    assert isinstance(event, Data)
    assert event.value == told


@pytest.mark.parametrize(
    "value",
    [b"raw", float("nan"), float("inf"), {1: 2}, [{"a": {None: 1}}], datetime(2026, 1, 1, tzinfo=UTC)],
    ids=repr,
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    """Another client of the session may read JSON."""
    for event in (
        {"type": "tool.output", "call_id": "c_1", "output": value},
        {"type": "session.update", "id": "c_1", "metadata": {"a": value}},
    ):
        with pytest.raises(DecodeError) as caught:
            MESSAGEPACK.decode_client(msgspec.msgpack.encode(event))
        assert (caught.value.code, caught.value.ref_id) == (errors.BAD_EVENT, "c_1")


PACKED: dict[str, tuple[bytes, Code]] = {
    "invalid UTF-8": (b"\x82\xa4type\xa4ping\xa2id\xa1\xff", errors.BAD_FRAME),
    "junk behind": (msgspec.msgpack.encode({"type": "ping", "id": "a"}) + b"\x01", errors.BAD_FRAME),
    "nothing": (b"", errors.BAD_FRAME),
    "JSON": (b'{"type":"ping","id":"a"}', errors.BAD_EVENT),
    "a map that ends early": (b"\x82\xa4type\xa4ping", errors.BAD_FRAME),
    "a map of 2**32 entries": (b"\xdf\xff\xff\xff\xff", errors.BAD_FRAME),
    "deep nesting": (b"\x82\xa4type\xa4ping\xa1x" + b"\x91" * 100_000, errors.BAD_FRAME),
    "a number for a string": (msgspec.msgpack.encode({"type": "ping", "id": 1}), errors.BAD_EVENT),
    "bytes for a string": (msgspec.msgpack.encode({"type": "ping", "id": b"a"}), errors.BAD_EVENT),
    "no type": (b"\x80", errors.BAD_EVENT),
    "a list": (b"\x90", errors.BAD_EVENT),
    "an unknown type": (msgspec.msgpack.encode({"type": "nope", "id": "a"}), errors.UNKNOWN_TYPE),
}


@pytest.mark.parametrize(("frame", "code"), PACKED.values(), ids=PACKED)
def test_hostile_messagepack(frame: bytes, code: Code) -> None:
    """Each is answered by its code, with a detail that is short."""
    with pytest.raises(DecodeError) as caught:
        MESSAGEPACK.decode_client(frame)
    assert caught.value.code is code
    assert len(caught.value.detail) <= 200


def str_head(text: str) -> bytes:
    """Return a short string in MessagePack."""
    return bytes([0xA0 | len(text)]) + text.encode()


def event_with(field: str, value: bytes, kind: str = "input.text") -> bytes:
    """Return a map with a type, an id and a field."""
    named = (("type", str_head(kind)), ("id", str_head("in_1")), ("text", str_head("x")), (field, value))
    return bytes([0x80 | len(named)]) + b"".join(str_head(name) + of_name for name, of_name in named)


def colliding_keys(count: int) -> bytes:
    """Return a map whose keys are arrays of -1 and -2, which have few different hashes."""
    keys = itertools.islice(itertools.product(b"\xff\xfe", repeat=15), count)
    return b"\xdf" + count.to_bytes(4, "big") + b"".join(b"\x9f" + bytes(key) + b"\x00" for key in keys)


@pytest.mark.parametrize(
    "around", [b"\x81\xa1a", b"\x91", b"\x81\xa1a\xdc\x00\x02\xc0"], ids=["map", "array", "both"]
)
@pytest.mark.parametrize("field", ["metadata", "id", "call_id", "turn_id", "seq", "from_the_future"])
@pytest.mark.parametrize("kind", ["input.text", "from.the.future"])
def test_keys_that_collide_are_refused_before_they_are_decoded(kind: str, field: str, around: bytes) -> None:
    """Wherever they stand, also in a field that nobody knows."""
    frame = event_with(field, around + colliding_keys(900), kind)
    for decode in (MESSAGEPACK.decode_client, MESSAGEPACK.decode_server):
        with pytest.raises(DecodeError) as caught:
            decode(frame)
        assert (caught.value.code, caught.value.detail) == (
            errors.BAD_EVENT,
            "expected keys that are strings, got others",
        )


def test_a_frame_has_a_bounded_number_of_values() -> None:
    """Each takes far more memory than its byte."""
    for count, refused in ((MAX_CLIENT_VALUES - 10, False), (MAX_CLIENT_VALUES, True)):
        frame = event_with("x", b"\xdd" + count.to_bytes(4, "big") + b"\x90" * count)
        if refused:
            with pytest.raises(
                DecodeError, match=f"expected at most {MAX_CLIENT_VALUES} values, got more"
            ) as caught:
                MESSAGEPACK.decode_client(frame)
            assert caught.value.ref_id == "in_1"
        else:
            MESSAGEPACK.decode_client(frame)


_LONG = st.sampled_from(["a" * 300, b"b" * 300, "c" * 70_000, b"d" * 70_000])
_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
    | st.text(max_size=40) | st.binary(max_size=40) | _LONG
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
    max_leaves=40,
)


@wire.QUICK
@given(value=_VALUES, cut=st.integers(0, 2**10))
def test_the_scan_knows_every_form(value: Any, cut: int) -> None:
    """What msgspec encodes has no fault, whole or cut; with one key that is no string it has."""
    frame = msgspec.msgpack.encode(value)
    assert structure_fault(frame, MAX_VALUES) is None
    assert structure_fault(frame[:cut], MAX_VALUES) is None
    wrong = msgspec.msgpack.encode([value, {"a": value, 1: value}])
    assert structure_fault(wrong, MAX_VALUES) == "expected keys that are strings, got others"


@pytest.mark.parametrize(
    "head", [b"\xc7\x03", b"\xc8\x00\x03", b"\xc9\x00\x00\x00\x03", b"\xd4", b"\xd8"], ids=repr
)
def test_the_scan_passes_over_extensions(head: bytes) -> None:
    """They are scalars of their size."""
    size = {0xD4: 1, 0xD8: 16}.get(head[0], 3)
    extension = head + b"\x05" + b"\x81" * size
    assert msgspec.msgpack.decode(b"\x92" + extension + b"\xc0")[1] is None
    assert structure_fault(b"\x92" + extension + b"\x81\x01\x01", MAX_VALUES) is not None
    assert structure_fault(b"\x92" + extension + b"\x81\xa1a\x01", MAX_VALUES) is None


NOT_JSON = {
    "bytes": b"x",
    "time": datetime(2026, 1, 1, tzinfo=UTC),
    "integer as key": {1: 2},
    "extension": msgspec.msgpack.Ext(5, b"x"),
    "not a number": float("nan"),
    "bytes inside": [{"a": b""}],
}


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=NOT_JSON)
def test_a_server_sends_only_values_that_json_has(value: Any) -> None:
    """Whatever holds a value for the application; the client could not write it as JSON."""
    state = {"turn_id": "t_1", "lanes": {"": {"data": {"n": value}}}}
    events: list[dict[str, Any]] = [
        {"type": "data", "name": "n", "value": value},
        {"type": "tool.confirm", "call_id": "c", "arguments": {"a": value}},
        {"type": "tool.running", "call_id": "c", "arguments": {"a": value}},
        {"type": "tool.result", "call_id": "c", "status": "completed", "output": value},
        {"type": "snapshot", "through": 1, "turns": [state]},
    ]
    for event in events:
        with pytest.raises(DecodeError) as caught:
            MESSAGEPACK.decode_server(msgspec.msgpack.encode(event))
        assert caught.value.code is errors.BAD_EVENT


def test_a_snapshot_may_hold_many_values() -> None:
    """Hours of speech have more of them than a client may send; the snapshot has a bound in bytes."""
    audio = [AudioSpan(start_ms=n, duration_ms=20) for n in range(MAX_VALUES // 2)]
    turn = TurnState(turn_id=TurnId("t_1"), lanes={"": LaneState(audio=audio)})
    snapshot = Snapshot(through=Seq(1), turns=[turn])
    for codec in (JSON, MESSAGEPACK):
        assert codec.decode_server(codec.encode(snapshot)) == snapshot
