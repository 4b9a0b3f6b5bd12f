"""MessagePack: the same events in fewer bytes."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given

import golden_vectors as wire
from bargein_protocol import JSON, MESSAGEPACK, AudioDelta, Code, Data, DecodeError, errors


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
