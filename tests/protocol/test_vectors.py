"""The golden messages: another implementation asserts the same file."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

import golden_vectors as wire
from bargein_protocol import JSON, DecodeError, TurnFold, TurnId, UnknownEvent

DECODE = {"client": JSON.decode_client, "server": JSON.decode_server}
STRUCTS = {wire.tag(struct): struct for structs in wire.EVENTS.values() for struct in structs}
Vector = dict[str, Any]


def each(section: str) -> pytest.MarkDecorator:
    """Run a test with every vector of a section."""
    return pytest.mark.parametrize("vector", wire.vectors()[section], ids=lambda vector: vector["name"])


@each("messages")
def test_a_message_decodes_to_its_event(vector: Vector) -> None:
    """The text means what the vector says, field by field."""
    event = DECODE[vector["direction"]](vector["json"].encode())
    assert wire.plain(event) == vector["event"]


@each("messages")
def test_an_event_encodes_to_its_message(vector: Vector) -> None:
    """The event is written as exactly this text."""
    event: Any = msgspec.convert(vector["event"], STRUCTS[vector["event"]["type"]])
    assert JSON.encode(event).decode() == vector["json"]


@each("messages")
def test_the_plain_form_is_the_text(vector: Vector) -> None:
    """Any JSON encoder gets the text from the plain form, so the vectors serve every language."""
    assert json.loads(vector["json"]) == vector["event"]
    text = json.dumps(vector["event"], ensure_ascii=False, separators=(",", ":"))
    assert text == vector["json"]


@each("tolerated")
def test_unusual_text_is_understood(vector: Vector) -> None:
    """What a reader must bear means what the vector says."""
    event = DECODE[vector["direction"]](vector["json"].encode())
    known = wire.plain(event)
    if isinstance(event, UnknownEvent):
        known["type"] = known.pop("kind")
    assert vector["event"].items() <= known.items()


@each("invalid")
def test_an_invalid_frame_is_refused(vector: Vector) -> None:
    """It is answered by the code that the vector names."""
    with pytest.raises(DecodeError) as caught:
        DECODE[vector["direction"]](vector["json"].encode())
    assert caught.value.code.name == vector["error"]


@each("folds")
def test_events_fold_to_the_turn(vector: Vector) -> None:
    """The same events give every implementation the same turn."""
    fold = TurnFold(TurnId(vector["turn_id"]))
    for plain in vector["events"]:
        event = JSON.decode_server(json.dumps(plain).encode())
        fold.apply(event)  # type: ignore[arg-type]
    assert wire.plain(fold.folded()) == vector["folded"]


@pytest.mark.parametrize("direction", wire.EVENTS)
def test_every_field_of_every_event_has_a_vector(direction: str) -> None:
    """Each event has a vector, each optional field one with it and one without."""
    written: dict[str, list[set[str]]] = {}
    for vector in wire.vectors()["messages"]:
        if vector["direction"] == direction:
            written.setdefault(vector["event"]["type"], []).append(set(vector["event"]) - {"type"})
    for struct in wire.EVENTS[direction]:
        fields = wire.fields_of(struct)
        vectors = written[wire.tag(struct)]
        assert set().union(*vectors) == set(fields)
        numbering = {"seq", "turn_id"}  # never left out by a sender, but by nature of duplicates
        optional = {name for name, field in fields.items() if not field.required} - numbering
        assert not set.intersection(*vectors) & optional, wire.tag(struct)


def test_every_output_is_folded_by_a_vector() -> None:
    """Each event of a turn is in one of the folds."""
    folded = {event["type"] for vector in wire.vectors()["folds"] for event in vector["events"]}
    of_turns = {wire.tag(s) for s in wire.EVENTS["server"] if "turn_id" in s.__struct_fields__}
    assert of_turns - {"session.opened", "interrupt.result"} <= folded


def test_names_are_unique() -> None:
    """A failing vector can be found by its name."""
    for section in ("messages", "tolerated", "invalid", "folds"):
        names = [(vector.get("direction"), vector["name"]) for vector in wire.vectors()[section]]
        assert len(set(names)) == len(names)
