from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect

import golden_vectors as wire
from bargein_protocol import Heard, Limits, Played, types


def _unbounded(info: inspect.Type, path: str) -> Iterator[str]:
    match info:
        case inspect.IntType() | inspect.FloatType():
            if info.ge is None or info.le is None:
                yield path
        case inspect.StrType() | inspect.BytesType():
            if info.max_length is None:
                yield path
        case inspect.ListType():
            if info.max_length is None:
                yield path
            yield from _unbounded(info.item_type, f"{path}[]")
        case inspect.DictType():
            if info.max_length is None:
                yield path
            yield from _unbounded(info.value_type, f"{path}{{}}")
        case inspect.UnionType():
            for member in info.types:
                yield from _unbounded(member, path)
        case inspect.StructType():
            for field in info.fields:
                yield from _unbounded(field.type, f"{path}.{field.encode_name}")


@pytest.mark.parametrize("struct", [s for events in wire.EVENTS.values() for s in events])
def test_everything_has_a_bound(struct: type[msgspec.Struct]) -> None:
    """Every number, string, list and map in every event has a bound."""
    assert list(_unbounded(inspect.type_info(struct), wire.tag(struct))) == []


def test_a_field_without_a_bound_is_found() -> None:
    """The test above goes red."""

    class Careless(msgspec.Struct):
        names: list[str]

    assert list(_unbounded(inspect.type_info(Careless), "careless")) == ["careless.names", "careless.names[]"]


def test_the_largest_integer_is_exact_in_a_double() -> None:
    """No integer on the wire is beyond what a JavaScript number holds exactly."""
    assert int(float(types.MAX_INT)) == types.MAX_INT
    assert float(types.MAX_INT + 1) == float(types.MAX_INT + 2)


def test_absent_positions_are_left_out() -> None:
    """No news about a position is no field, but zero is news."""
    assert wire.plain(Played()) == {}
    assert wire.plain(Played(chars=0)) == {"chars": 0}


def test_heard_is_always_whole() -> None:
    """What was heard is written in full, also when it is nothing."""
    assert wire.plain(Heard()) == {"seq": 0, "text": "", "audio_ms": 0}


def test_limits_have_no_defaults() -> None:
    """A server says each of its limits; without types of files there are no files."""
    fields = wire.fields_of(Limits)
    assert {name for name, field in fields.items() if not field.required} == {"attachments"}
