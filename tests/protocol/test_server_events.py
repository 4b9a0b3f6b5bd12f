from __future__ import annotations

import json
import re
from typing import get_args

import msgspec
import pytest
from msgspec import inspect

import golden_vectors as wire
from bargein_protocol import (
    JSON,
    AgentOutput,
    DecodeError,
    InputAccepted,
    InputId,
    Numbered,
    NumberedEvent,
    Output,
    Progress,
    TextDelta,
    TurnId,
    errors,
    server_events,
    speech_events,
)

events = pytest.mark.parametrize("struct", wire.EVENTS["server"], ids=wire.tag)

UNNUMBERED = {
    "session.opened", "replay.done", "snapshot", "heartbeat", "pong", "goaway", "error", "input.rejected",
    "interrupt.result",
}  # fmt: skip


@events
def test_bounds(struct: type[msgspec.Struct]) -> None:
    """Every field takes its limit and refuses one past it."""
    for where, good, bad in wire.bounds(inspect.type_info(struct)):
        JSON.decode_server(json.dumps(good).encode())
        with pytest.raises(DecodeError) as caught:
            JSON.decode_server(json.dumps(bad).encode())
        assert caught.value.code is errors.BAD_EVENT, where


@events
def test_the_least_event_is_legal(struct: type[msgspec.Struct]) -> None:
    """An event with its required fields alone decodes to its struct."""
    least = wire.least(inspect.type_info(struct))
    assert type(JSON.decode_server(json.dumps(least).encode())) is struct


@events
def test_names(struct: type[msgspec.Struct]) -> None:
    """A type is words with dots in lower case, and an event is frozen."""
    assert re.fullmatch(r"[a-z]+(\.[a-z]+)*", wire.tag(struct))
    assert struct.__struct_config__.frozen


@events
def test_numbered_events_are_those_of_the_stream(struct: type[msgspec.Struct]) -> None:
    """What is no part of a turn or of speech carries no number."""
    numbered = issubclass(struct, Numbered)
    assert numbered is (wire.tag(struct) not in UNNUMBERED)
    assert numbered is (struct in get_args(NumberedEvent))


def test_the_unions_hold_every_event_of_the_module() -> None:
    """No event with a type is defined and left out of the union, no output is missing from its own."""
    defined = {
        struct
        for module in (server_events, speech_events)
        for struct in vars(module).values()
        if isinstance(struct, type)
        and issubclass(struct, msgspec.Struct)
        and struct.__module__ == module.__name__
        and struct.__struct_config__.tag != struct.__name__
    }
    assert defined == set(wire.EVENTS["server"])
    assert set(get_args(AgentOutput)) == {s for s in defined if issubclass(s, Output)}


def test_types_are_unique_in_both_directions() -> None:
    """No type means one thing going up and another coming down."""
    tags = [wire.tag(struct) for structs in wire.EVENTS.values() for struct in structs]
    assert len(set(tags)) == len(tags)


def test_an_unsent_output_has_no_number_and_no_turn() -> None:
    """An agent builds its output bare; the server numbers it as it hands it over."""
    bare = TextDelta(text="x")
    assert wire.plain(bare) == {"type": "text.delta", "text": "x"}
    sent = msgspec.structs.replace(bare, seq=7, turn_id=TurnId("t_1"))
    assert wire.plain(sent) == {"type": "text.delta", "seq": 7, "turn_id": "t_1", "text": "x"}


def test_a_duplicate_carries_no_number() -> None:
    """The answer to a resend makes no hole in the numbers."""
    again = InputAccepted(turn_id=TurnId("t_1"), input_id=InputId("in_1"), duplicate=True)
    assert "seq" not in wire.plain(again)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_does_not_arrive(value: float) -> None:
    """JSON has no word for it: it is written as null, which no reader takes for a number."""
    with pytest.raises(DecodeError):
        JSON.decode_server(JSON.encode(Progress(value=value)))
