from __future__ import annotations

import json
import re

import msgspec
import pytest
from msgspec import inspect

import golden_vectors as wire
from bargein_protocol import (
    JSON,
    DecodeError,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    PendingEvent,
    SessionOpen,
    client_events,
    errors,
)

events = pytest.mark.parametrize("struct", wire.EVENTS["client"], ids=wire.tag)


@events
def test_bounds(struct: type[msgspec.Struct]) -> None:
    """Every field takes its limit and refuses one past it."""
    for where, good, bad in wire.bounds(inspect.type_info(struct)):
        JSON.decode_client(json.dumps(good).encode())
        with pytest.raises(DecodeError) as caught:
            JSON.decode_client(json.dumps(bad).encode())
        assert caught.value.code is errors.BAD_EVENT, where


@events
def test_the_least_event_is_legal(struct: type[msgspec.Struct]) -> None:
    """An event with its required fields alone decodes, and encodes to no more than those."""
    least = wire.least(inspect.type_info(struct))
    event = JSON.decode_client(json.dumps(least).encode())
    assert type(event) is struct
    assert json.loads(JSON.encode(event)) == least


@events
def test_names(struct: type[msgspec.Struct]) -> None:
    """A type is words with dots in lower case; an event is frozen, so it may be kept and sent again."""
    assert re.fullmatch(r"[a-z]+(\.[a-z]+)*", wire.tag(struct))
    assert struct.__struct_config__.frozen


def test_the_union_holds_every_event_of_the_module() -> None:
    """No event is defined and left out of the union."""
    defined = {
        struct
        for struct in vars(client_events).values()
        if isinstance(struct, type)
        and issubclass(struct, msgspec.Struct)
        and struct.__module__ == client_events.__name__
        and not struct.__name__.startswith("_")
    }
    assert defined == set(wire.EVENTS["client"])


def test_what_has_an_answer_may_be_pending() -> None:
    """Inputs and interrupts keep their type inside `pending`, and nothing else may stand there."""
    pending: list[PendingEvent] = [InputText(id=InputId("in_1"), text="x"), Interrupt(id=InterruptId("x_1"))]
    event = JSON.decode_client(JSON.encode(SessionOpen(pending=pending)))
    assert isinstance(event, SessionOpen)
    assert event.pending == pending
    with pytest.raises(DecodeError):
        JSON.decode_client(b'{"type":"session.open","pending":[{"type":"session.close"}]}')


def test_on_busy_is_the_sessions_when_absent() -> None:
    """An input that says nothing leaves the choice to the session."""
    event = JSON.decode_client(b'{"type":"input.text","id":"in_1","text":"x"}')
    assert isinstance(event, InputText)
    assert event.on_busy is None
