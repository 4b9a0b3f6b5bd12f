"""Hostile input: whatever the peer sends, decoding returns an event or raises `DecodeError`."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden_vectors as wire
from bargein_protocol import (
    CODECS,
    JSON,
    MESSAGEPACK,
    Code,
    Codec,
    Data,
    DecodeError,
    InputId,
    InputText,
    Ping,
    SessionUpdate,
    TextDelta,
    ToolOutput,
    UnknownEvent,
    errors,
    json_scan,
    negotiate,
    types,
)

codecs = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)


def refuse(frame: bytes) -> DecodeError:
    """Return the error that both decoders raise for a frame."""
    with pytest.raises(DecodeError):
        JSON.decode_server(frame)
    with pytest.raises(DecodeError) as caught:
        JSON.decode_client(frame)
    return caught.value


# --- both ways ---------------------------------------------------------------------------------


@codecs
@wire.QUICK
@given(event=wire.any_event(*wire.EVENTS["client"]))
def test_a_client_event_survives_the_wire(codec: Codec, event: Any) -> None:
    """Whatever a client sends, the server reads the same."""
    assert codec.decode_client(codec.encode(event)) == event


@codecs
@wire.QUICK
@given(event=wire.any_event(*wire.EVENTS["server"]))
def test_a_server_event_survives_the_wire(codec: Codec, event: Any) -> None:
    """Whatever a server sends, the client reads the same."""
    assert codec.decode_server(codec.encode(event)) == event


# --- hostile input -----------------------------------------------------------------------------


@codecs
@wire.QUICK
@given(frame=st.binary(max_size=64))
def test_random_bytes(codec: Codec, frame: bytes) -> None:
    """Noise raises nothing but `DecodeError`."""
    for decode in (codec.decode_client, codec.decode_server):
        with pytest.raises(DecodeError):
            decode(frame)


@wire.QUICK
@given(
    value=wire.JSON_VALUES
    | st.dictionaries(st.sampled_from(["type", "id", "seq", "turn_id"]), wire.JSON_VALUES)
)
def test_random_json(value: Any) -> None:
    """Legal JSON raises nothing but `DecodeError`; a type that a client does not know is no error."""
    frame = json.dumps(value).encode()
    for decode in (JSON.decode_client, JSON.decode_server):
        with suppress(DecodeError):
            decode(frame)


@wire.QUICK
@given(
    event=wire.any_event(*wire.EVENTS["client"], *wire.EVENTS["server"]),
    where=st.floats(0, 1),
    noise=st.binary(max_size=4),
)
def test_a_damaged_event(event: Any, where: float, noise: bytes) -> None:
    """An event with bytes replaced is an event, or raises nothing but `DecodeError`."""
    frame = JSON.encode(event)
    cut = int(where * len(frame))
    damaged = frame[:cut] + noise + frame[cut + len(noise) :]
    for decode in (JSON.decode_client, JSON.decode_server):
        error = None
        try:
            decode(damaged)
        except DecodeError as raised:
            error = raised
        assert error is None or len(error.detail) <= 200


@pytest.mark.parametrize("depth", [100, 900, 1_000, 30_000])
@pytest.mark.parametrize(
    "frame",
    [
        b"%s",
        b'{"type":"session.update","metadata":{"a":%s}}',
        b'{"type":"tool.output","call_id":"c","output":%s}',
        b'{"type":"session.open","pending":[{"type":"input.text","id":"a","text":"","metadata":{"a":%s}}]}',
        b'{"type":"ping","id":%s}',
        b'{"type":%s}',
        b'{"type":"nope","id":%s}',
    ],
)
def test_deep_nesting(frame: bytes, depth: int) -> None:
    """Nesting without end is a `DecodeError`, never a `RecursionError`."""
    for value in (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth, b"[" * depth):
        with pytest.raises(DecodeError):
            JSON.decode_client(frame % value)


def test_deep_nesting_in_an_ignored_field() -> None:
    """A field that nobody reads may nest as deep as the stack holds, and not a level deeper."""
    frame = b'{"type":"ping","id":"a","x":%s}'
    assert JSON.decode_client(frame % (b"[" * 100 + b"]" * 100)) == Ping(id="a")
    assert refuse(frame % (b"[" * 30_000 + b"]" * 30_000)).code is errors.BAD_FRAME


@pytest.mark.parametrize(
    "value",
    [[[]] * types.MAX_CLIENT_VALUES, [{"a": 1}] * (types.MAX_CLIENT_VALUES // 3)],
    ids=["lists", "maps"],
)
def test_size_of_an_open_value(value: list[Any]) -> None:
    """A value takes far more memory than its bytes."""

    def frame(output: list[Any]) -> bytes:
        return json.dumps({"type": "tool.output", "call_id": "c_1", "output": output}).encode()

    JSON.decode_client(frame(value))
    with pytest.raises(DecodeError) as caught:
        JSON.decode_client(frame([*value, *value[:1]]))
    assert caught.value.detail == "expected at most 16384 values, got more"


@pytest.mark.parametrize("field", ["metadata", "output", "pending"])
def test_depth_of_an_open_value(field: str) -> None:
    """What the protocol does not describe nests 64 levels and not 65, itself included."""

    def frame(levels: int) -> bytes:
        value: Any = {}
        for _ in range(levels - 1):
            value = {"a": value, "b": [1, "x", None]} if levels > 2 else {"a": value}
        events = {
            "metadata": {"type": "session.update", "metadata": value},
            "output": {"type": "tool.output", "call_id": "c_1", "output": value},
            "pending": {
                "type": "session.open",
                "pending": [{"type": "input.text", "id": "in_1", "text": "", "metadata": value}],
            },
        }
        return json.dumps(events[field]).encode()

    JSON.encode(JSON.decode_client(frame(types.MAX_DEPTH)))
    with pytest.raises(DecodeError) as caught:
        JSON.decode_client(frame(types.MAX_DEPTH + 1))
    assert caught.value.code is errors.BAD_EVENT
    assert caught.value.detail == "expected at most 64 nested levels, got more"
    assert caught.value.ref_id == ("c_1" if field == "output" else None)


HOSTILE: dict[str, tuple[bytes, Code]] = {
    "invalid UTF-8": (b'{"type":"ping","id":"\xff"}', errors.BAD_FRAME),
    "half a character": (b'{"type":"ping","id":"\xf0\x9f\x98"}', errors.BAD_FRAME),
    "an encoded surrogate": (b'{"type":"ping","id":"\xed\xa0\x80"}', errors.BAD_FRAME),
    "a lone surrogate": (b'{"type":"ping","id":"\\ud800"}', errors.BAD_FRAME),
    "surrogates in the wrong order": (b'{"type":"ping","id":"\\udc00\\ud800"}', errors.BAD_FRAME),
    "a byte order mark": (b'\xef\xbb\xbf{"type":"ping","id":"a"}', errors.BAD_FRAME),
    "UTF-16": ('{"type":"ping","id":"a"}'.encode("utf-16"), errors.BAD_FRAME),
    "junk behind": (b'{"type":"ping","id":"a"} x', errors.BAD_FRAME),
    "two events": (b'{"type":"ping","id":"a"}\n{"type":"ping","id":"b"}', errors.BAD_FRAME),
    "nothing": (b"", errors.BAD_FRAME),
    "NUL": (b"\0", errors.BAD_FRAME),
    "NaN": (b'{"type":"playback","turn_id":"t","seq":NaN}', errors.BAD_FRAME),
    "Infinity": (b'{"type":"playback","turn_id":"t","seq":Infinity}', errors.BAD_FRAME),
    "400 digits": (b'{"type":"playback","turn_id":"t","seq":' + b"9" * 400 + b"}", errors.BAD_EVENT),
    "5000 digits": (b'{"type":"playback","turn_id":"t","seq":' + b"9" * 5000 + b"}", errors.BAD_EVENT),
    "5000 digits inside": (
        b'{"type":"session.update","metadata":{"a":' + b"9" * 5000 + b"}}",
        errors.BAD_EVENT,
    ),
    "beyond any double": (b'{"type":"session.update","metadata":{"a":1e999}}', errors.BAD_EVENT),
    "an integer with a fraction": (b'{"type":"playback","turn_id":"t","seq":1.5}', errors.BAD_EVENT),
    "a type twice": (b'{"type":"ping","type":"session.close","id":"a"}', errors.BAD_EVENT),
    "a list": (b"[]", errors.BAD_EVENT),
    "a string": (b'"ping"', errors.BAD_EVENT),
    "no type": (b"{}", errors.BAD_EVENT),
    "a type of null": (b'{"type":null}', errors.BAD_EVENT),
    "a long value": (
        b'{"type":"input.text","id":"a","text":"","on_busy":"' + b"x" * 1000 + b'"}',
        errors.BAD_EVENT,
    ),
    "an empty type": (b'{"type":""}', errors.UNKNOWN_TYPE),
    "a type that is long": (b'{"type":"' + b"x" * 100_000 + b'"}', errors.UNKNOWN_TYPE),
    "a name from Python": (b'{"type":"UnknownEvent"}', errors.UNKNOWN_TYPE),
}


@pytest.mark.parametrize(("frame", "code"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_input(frame: bytes, code: Code) -> None:
    """Each is answered by its code, with a detail that is short."""
    with pytest.raises(DecodeError) as caught:
        JSON.decode_client(frame)
    assert caught.value.code is code
    assert len(caught.value.detail) <= 200


def test_the_last_of_equal_keys_counts() -> None:
    """A key that comes twice is no error."""
    assert JSON.decode_client(b'{"type":"ping","id":"a","id":"b"}') == Ping(id="b")


def test_long_integers_of_the_application_pass() -> None:
    """In what the protocol does not describe an integer may be long, and is written as it came."""
    frame = b'{"type":"session.update","metadata":{"a":%s}}'
    whole = frame % (b"9" * json_scan.MAX_DIGITS)
    assert JSON.encode(JSON.decode_client(whole)) == whole
    JSON.decode_client(frame % (b'"%s"' % (b"9" * 1000)))
    with pytest.raises(DecodeError, match="expected numbers of at most 309 digits"):
        JSON.decode_client(frame % (b"9" * (json_scan.MAX_DIGITS + 1)))


def test_unknown_fields_are_ignored() -> None:
    """A newer client may say more."""
    assert JSON.decode_client(b'{"type":"ping","id":"a","later":[{}]}') == Ping(id="a")


@pytest.mark.parametrize("kind", ["id", "call_id"])
@pytest.mark.parametrize(
    ("value", "ref_id"),
    [
        ('"a"', "a"),
        (f'"{"c" * 128}"', "c" * 128),
        (f'"{"c" * 129}"', None),
        ('""', None),
        ("5", None),
        ("[1]", None),
    ],
)
def test_an_error_names_the_event(kind: str, value: str, ref_id: str | None) -> None:
    """The id comes back where it could be read and be sent."""
    with pytest.raises(DecodeError) as caught:
        JSON.decode_client(f'{{"type":"nope","{kind}":{value}}}'.encode())
    assert (caught.value.code, caught.value.ref_id) == (errors.UNKNOWN_TYPE, ref_id)


def test_details_do_not_name_the_language() -> None:
    """A peer learns what is wrong with its frame and nothing about this program."""
    deep = b'{"type":"ping","id":"a","x":' + b"[" * 30_000
    for frame in (deep, b'{"type":"ping","id":"\xff"}', b'{"type":"ping","id":"\xed\xa0\x80"}'):
        with pytest.raises(DecodeError) as caught:
            JSON.decode_client(frame)
        # The second is that of msgspec from 0.23 on; older ones let Python's error pass.
        assert caught.value.detail in (errors.BAD_FRAME.reason, "Invalid UTF-8 encoded string")
        assert caught.value.__cause__ is None


# --- unknown events ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "event"),
    [
        (b"", UnknownEvent(kind="future.thing")),
        (
            b',"seq":7,"turn_id":"t_1"',
            UnknownEvent(kind="future.thing", seq=types.Seq(7), turn_id=types.TurnId("t_1")),
        ),
        (b',"id":5,"call_id":{},"x":[[]]', UnknownEvent(kind="future.thing")),
    ],
)
def test_an_unknown_server_event_counts(rest: bytes, event: UnknownEvent) -> None:
    """A client keeps the number of an event that it does not know, whatever its other fields are."""
    assert JSON.decode_server(b'{"type":"future.thing"' + rest + b"}") == event


@pytest.mark.parametrize("rest", ['"seq":-1', '"seq":"7"', '"seq":true', f'"seq":{2**53}', '"turn_id":5'])
def test_an_unknown_event_with_an_odd_number_is_refused(rest: str) -> None:
    """What cannot be counted is no event."""
    with pytest.raises(DecodeError) as caught:
        JSON.decode_server(f'{{"type":"future.thing",{rest}}}'.encode())
    assert caught.value.code is errors.UNKNOWN_TYPE


def test_an_event_of_a_client_does_not_come_from_a_server() -> None:
    """Its name would be taken for one of the events that the client makes itself."""
    with pytest.raises(DecodeError) as caught:
        JSON.decode_server(b'{"type":"client.turn_snapshot","turn_id":"t_1","seq":1}')
    assert caught.value.code is errors.UNKNOWN_TYPE


def test_values_of_a_server_have_bounds() -> None:
    """Those of a client's values."""
    deep: Any = []
    for _ in range(types.MAX_DEPTH):
        deep = [deep]
    for value in (deep, [0] * (types.MAX_VALUES + 1)):
        with pytest.raises(DecodeError) as caught:
            JSON.decode_server(JSON.encode(Data(name="n", value=value)))
        assert caught.value.code is errors.BAD_EVENT
    assert JSON.decode_server(JSON.encode(Data(name="n", value=deep[0]))) == Data(name="n", value=deep[0])


# --- encoding ----------------------------------------------------------------------------------


def test_encoding_refuses_what_has_no_form() -> None:
    """What an agent yields may be impossible to write; the caller learns it from one of three errors."""
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(TypeError):
        JSON.encode(Data(name="n", value=object()))
    with pytest.raises(UnicodeEncodeError):
        JSON.encode(TextDelta(text="\ud800"))
    with pytest.raises(RecursionError):
        JSON.encode(Data(name="n", value=deep))
    while deep:  # taken apart by hand: to free it in one go would need the stack again
        deep = deep.pop()


def test_absent_fields_are_left_out() -> None:
    """Defaults cost no bytes."""
    event = InputText(id=types.InputId("in_1"), text="x")
    assert JSON.encode(event) == b'{"type":"input.text","id":"in_1","text":"x"}'
    assert JSON.encode(ToolOutput(call_id=types.CallId("c"))) == b'{"type":"tool.output","call_id":"c"}'
    assert JSON.encode(SessionUpdate(metadata={})) == b'{"type":"session.update","metadata":{}}'


# --- choosing ----------------------------------------------------------------------------------


@codecs
def test_a_codec_is_found_under_its_subprotocol(codec: Codec) -> None:
    """The name on the handshake leads to the codec."""
    assert negotiate([codec.subprotocol]) == (codec, codec.subprotocol)


def test_negotiation() -> None:
    """The first known one of the client; JSON and no name for none; a refusal for only unknown ones."""
    assert negotiate([]) == (JSON, None)
    assert negotiate(["chat", "bargein.v1.json", "x"]) == (JSON, "bargein.v1.json")
    assert negotiate(["bargein.v1.msgpack", "bargein.v1.json"]) == (MESSAGEPACK, "bargein.v1.msgpack")
    assert negotiate(["chat", "bargein.v2.json"]) is None
    assert negotiate(["BARGEIN.V1.JSON"]) is None


def _frame(value: str) -> bytes:
    return b'{"type":"tool.output","call_id":"c_1","output":%s}' % value.encode()


@pytest.mark.parametrize("number", ["1e300", "5e-324", "1.2345678901234567E-300", "1e+299"])
def test_numbers_that_are_slow_to_read_are_few(number: str) -> None:
    """The decoder takes 12 µs for some numbers of five bytes; in a string they are text."""
    most = json_scan.MAX_LARGE_EXPONENTS
    JSON.decode_client(_frame("[" + ",".join([f'"{number}"'] * 1000) + "]"))
    JSON.decode_client(_frame("[" + ",".join([number] * most + ["1.5e10"] * 1000) + "]"))
    with pytest.raises(DecodeError) as caught:
        JSON.decode_client(_frame("[" + ",".join([number] * (most + 1)) + "]"))
    assert caught.value.code is errors.BAD_EVENT
    assert caught.value.ref_id == "c_1"
    assert "exponent of three digits" in caught.value.detail


@pytest.mark.parametrize(
    "text", [",[{:" * 15_000, '"' * 20_000, '\\",[' * 10_000, '\\\\",[' * 10_000, "1e300," * 10_000]
)
def test_marks_in_a_text_are_no_values(text: str) -> None:
    """Behind escaped quotes and backslashes too."""
    frame = json.dumps({"type": "input.text", "id": "in_1", "text": text}).encode()
    assert JSON.decode_client(frame) == InputText(id=InputId("in_1"), text=text)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=40,
    )
)
def test_the_scan_counts_no_less_than_there_is_and_at_most_twice_that(value: Any) -> None:
    """So what it refuses has too many values, and what it lets through is bounded."""

    def count(value: Any) -> int:
        if isinstance(value, dict):
            return 2 * len(value) + sum(map(count, value.values()))
        return len(value) + sum(map(count, value)) if isinstance(value, list) else 0

    frame = json.dumps(value).encode()
    values = count(value)
    assert json_scan.structure_fault(frame, values + 1) is None
    many = b"[" + b",".join([frame] * 100) + b"]"
    if values:
        assert json_scan.structure_fault(many, 100 * values // 2 - 40) is not None
