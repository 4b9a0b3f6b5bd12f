"""The normative text says what the code does: its tables and examples are read and compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import msgspec
import pytest
from msgspec import inspect

import golden_vectors as wire
from bargein_protocol import (
    CODES,
    JSON,
    Attachment,
    AudioFormat,
    AudioSpan,
    BatchAnswer,
    BatchInput,
    BatchRequest,
    BatchResult,
    ClientInfo,
    Cursor,
    Heard,
    LaneState,
    Limits,
    Numbered,
    Output,
    Played,
    ProgressState,
    Resume,
    SessionAudio,
    ToolState,
    TurnDetection,
    TurnEvent,
    TurnRequest,
    TurnState,
    Usage,
)
from bargein_protocol.types import MAX_ATTACHMENT_BYTES, MAX_AUDIO_BYTES

README = (wire.PROTOCOL / "README.md").read_text("utf-8")

OBJECTS: dict[str, type[msgspec.Struct]] = {
    "resume": Resume, "cursor": Cursor, "client": ClientInfo, "attachment": Attachment,
    "played": Played, "limits": Limits,
    "heard": Heard, "usage": Usage, "turn": TurnState, "lane": LaneState, "tool": ToolState,
    "span": AudioSpan, "progress": ProgressState, "audio options": SessionAudio, "audio format": AudioFormat,
    "turn detection": TurnDetection,
}  # fmt: skip
EVENTS = {wire.tag(struct): struct for structs in wire.EVENTS.values() for struct in structs}

STRINGS = {
    (1, 64): "id", (0, 64): "id", (1, 128): "name", (0, 128): "label", (1, 256): "token",
    (0, 4096): "message", (0, 8192): "secret", (0, 65_536): "input", (0, 1_048_576): "text",
}  # fmt: skip


def rows(*heads: str) -> Iterator[list[str]]:
    """Yield the rows of every table whose first heads are these."""
    start = "| " + " | ".join(heads) + " |"
    for table in re.findall(rf"^{re.escape(start)}.*\n\|[-|]+\|\n((?:\|.*\n)+)", README, re.MULTILINE):
        for row in table.splitlines():
            yield [cell.strip() for cell in row.strip("|").split("|")]


def tables(head: str) -> dict[str, dict[str, str]]:
    """Return name → field → type of the tables of events or objects; an optional field ends in `?`."""
    found: dict[str, dict[str, str]] = {}
    name = ""
    for first, fields, type_, *_ in rows(head, "field", "type"):
        if first:
            name = first.strip("`*")
            assert name not in found, f"{name} is there twice"
            found[name] = {}
        names = re.findall(r"`([a-z_]+\??)`", fields)
        one = type_.startswith(("`", "list of", "map of"))
        types = [type_] if one else type_.split(", ")
        assert len(types) in (1, len(names)) or not names, f"{name}: {fields} and {type_} do not match"
        found[name] |= dict(zip(names, types * len(names) if len(types) == 1 else types, strict=True))
    return found


def word(info: inspect.Type) -> str:
    """Return how the text calls a type."""
    match info:
        case inspect.StrType():
            assert info.max_length is not None
            return STRINGS[info.min_length or 0, info.max_length]
        case inspect.BytesType():
            return {MAX_AUDIO_BYTES: "audio", MAX_ATTACHMENT_BYTES: "bytes"}[info.max_length or 0]
        case inspect.LiteralType():
            return enumeration(f"`{value}`" for value in info.values)
        case inspect.UnionType():
            members = [member for member in info.types if not isinstance(member, inspect.NoneType)]
            return enumeration(word(member) for member in members)
        case inspect.ListType():
            return f"list of {word(info.item_type)}"
        case inspect.DictType():
            return (
                "object"
                if isinstance(info.value_type, inspect.AnyType)
                else f"map of {word(info.value_type)}"
            )
        case inspect.StructType():
            names = {struct: name for name, struct in (OBJECTS | BODIES).items()}
            return names.get(info.cls) or f"`{info.tag}`"
    simple: dict[type, str] = {
        inspect.IntType: "int",
        inspect.FloatType: "number",
        inspect.BoolType: "bool",
        inspect.AnyType: "any",
    }
    return simple[type(info)]


def enumeration(words: Iterator[str]) -> str:
    """Return words in an order that does not depend on who lists them."""
    return ", ".join(sorted(words))


def written(type_: str) -> str:
    """Return a type of the text in the form of `word`."""
    prefix = "list of " if type_.startswith("list of ") else ""
    return prefix + enumeration(iter(type_.removeprefix(prefix).split(", ")))


BODIES: dict[str, type[msgspec.Struct]] = {
    "turn request": TurnRequest, "batch request": BatchRequest, "batch input": BatchInput,
    "batch answer": BatchAnswer, "batch result": BatchResult,
}  # fmt: skip


def said_once(struct: type[msgspec.Struct]) -> set[str]:
    """Return the fields that the text gives for whole groups of events."""
    groups: dict[type, str] = {Numbered: "seq", TurnEvent: "turn_id", Output: "source"}
    return {name for group, name in groups.items() if issubclass(struct, group)}


def check(struct: type[msgspec.Struct], table: dict[str, str]) -> None:
    """Compare a struct with its rows."""
    expected = {
        name + ("" if field.required else "?"): word(field.type)
        for name, field in wire.fields_of(struct).items()
        if name not in said_once(struct)
    }
    assert {name: written(type_) for name, type_ in table.items()} == expected


@pytest.mark.parametrize("name", EVENTS)
def test_the_fields_of_an_event(name: str) -> None:
    """The text gives each field of each event: its type with the bounds, and whether it may be absent."""
    check(EVENTS[name], tables("event")[name])


@pytest.mark.parametrize("name", OBJECTS)
def test_the_fields_of_an_object(name: str) -> None:
    """The same for what stands inside events."""
    check(OBJECTS[name], tables("object")[name])


@pytest.mark.parametrize("name", BODIES)
def test_the_fields_of_a_body(name: str) -> None:
    """The same for what is sent over HTTP and is no event."""
    check(BODIES[name], tables("body")[name])


def test_nothing_else_is_described() -> None:
    """The text describes no event and no object that does not exist."""
    assert set(tables("event")) == set(EVENTS)
    assert set(tables("object")) == set(OBJECTS)
    assert set(tables("body")) == set(BODIES)


def test_the_bounds_of_strings() -> None:
    """The table of values says the bounds behind each word."""
    values = {name.strip("`"): meaning for name, meaning in rows("type", "values")}
    for (least, most), name in STRINGS.items():
        if (least, name) != (0, "id"):  # inside the program an event may have no turn yet
            assert values[name].startswith(f"string, {least} to {most:,} characters"), name
    others = {"int", "number", "bool", "audio", "bytes", "object", "any"}
    assert set(values) == set(STRINGS.values()) | others


def test_the_table_of_codes() -> None:
    """The text lists exactly the codes of the code, in its order."""
    table = list(rows("number", "name", "reason", "action", "closes"))
    assert table == [
        [str(code.number), f"`{code.name}`", code.reason, code.action.value, "yes" if code.closes else ""]
        for code in CODES
    ]


BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
EXAMPLES = [block for language, block in BLOCKS if not language and '"type"' in block]


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_messages(example: str) -> None:
    """Every frame of an example is one that our own code writes, and its numbers have no gap."""
    numbers = []
    for side, frame in re.findall(r"^([CS]): (.*)$", example, re.MULTILINE):
        event = (JSON.decode_client if side == "C" else JSON.decode_server)(frame.encode())
        assert JSON.encode(event).decode() == frame  # type: ignore[arg-type]
        if isinstance(event, Numbered):
            numbers.append(event.seq)
    assert all(later == earlier + 1 for earlier, later in pairwise(numbers))


def test_there_are_examples() -> None:
    """A conversation with a barge-in, a resume, a resume that is refused, and speech."""
    assert len(EXAMPLES) == 4


def test_the_example_over_http() -> None:
    """Every body is one, and every event that is streamed stands under its type and its cursor."""
    [example] = [block for language, block in BLOCKS if language == "http"]
    for body in re.findall(r"^\{.*\}$", example, re.MULTILINE):
        msgspec.json.decode(body, type=TurnRequest)
    events = re.findall(r"^event: (.*)\n(?:id: e_1\.(\d+)\n)?data: (.*)$", example, re.MULTILINE)
    assert len(events) == 3
    for kind, seq, data in events:
        event = JSON.decode_server(data.encode())
        assert JSON.encode(event).decode() == data  # type: ignore[arg-type]
        assert (wire.tag(type(event)), str(getattr(event, "seq", ""))) == (kind, seq)


def test_words_of_the_text_exist() -> None:
    """What looks like a type of an event is one, so that no old name stays behind."""
    named = set(re.findall(r"`([a-z]+\.[a-z.]+)`", README))
    legal = (
        set(EVENTS)
        | {"batch.result", "resume.cursor"}
        | {"limits.attachments"}
        | {"limits.pending", "limits.frame_bytes", "turn.ended.heard", "turn.ended.reason"}
        | {"audio.input", "audio.output", "session.opened.audio", "turn_detection.type"}
    )
    assert {name for name in named if not name.startswith("bargein.") and not name.endswith(".json")} <= (
        legal | {"heartbeat.message", "heartbeat.position"}
    )
