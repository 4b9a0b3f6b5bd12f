"""Vocabulary for tests of the wire: golden vectors, any event, bounds.

Everything is driven by the structs themselves, so a new event or field is covered as it is written.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from msgspec import inspect

from bargein_protocol import ClientEvent, ServerEvent

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "protocol"

EVENTS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "client": get_args(ClientEvent),
    "server": get_args(ServerEvent),
}
"""Every event's struct, by direction."""

QUICK = settings(max_examples=60, deadline=None)

Json = Any


@cache
def vectors() -> dict[str, list[dict[str, Any]]]:
    """Return the golden messages."""
    loaded: dict[str, list[dict[str, Any]]] = json.loads((PROTOCOL / "vectors.json").read_text("utf-8"))
    return loaded


def tag(struct: type[msgspec.Struct]) -> str:
    """Return an event's `type`."""
    return str(struct.__struct_config__.tag)


def plain(value: object) -> Json:
    """Return a value as a JSON parser would, bytes as base64."""
    return json.loads(msgspec.json.encode(value))


# --- any event at all --------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=24)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES: st.SearchStrategy[Json] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def any_event(*structs: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    """Return a strategy for instances of these structs with any legal values."""
    return st.one_of([_values(inspect.type_info(struct)) for struct in structs])


def _values(info: inspect.Type) -> st.SearchStrategy[Any]:
    match info:
        case inspect.AnyType():
            return JSON_VALUES
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(info.ge, info.le)
        case inspect.FloatType():
            return st.floats(info.ge, info.le)
        case inspect.StrType():
            least, most = info.min_length or 0, min(24, info.max_length or 24)
            return st.text(st.characters(exclude_categories=["Cs"]), min_size=least, max_size=most)
        case inspect.BytesType():
            return st.binary(max_size=24)
        case inspect.LiteralType():
            return st.sampled_from(info.values)
        case inspect.UnionType():
            return st.one_of([_values(member) for member in info.types])
        case inspect.ListType():
            return st.lists(_values(info.item_type), max_size=3)
        case inspect.DictType():
            return st.dictionaries(_values(info.key_type), _values(info.value_type), max_size=3)
        case inspect.StructType():
            required = {f.name: _values(f.type) for f in info.fields if f.required}
            optional = {f.name: _values(f.type) for f in info.fields if not f.required}
            fields = st.fixed_dictionaries(required, optional=optional)
            return fields.map(lambda values: info.cls(**values))
    raise AssertionError(f"no strategy for {info}")


# --- bounds ------------------------------------------------------------------------------------


def least(info: inspect.Type) -> Json:
    """Return the smallest legal value of a type, as plain data."""
    match info:
        case inspect.AnyType() | inspect.NoneType():
            return None
        case inspect.BoolType():
            return False
        case inspect.IntType():
            return info.ge
        case inspect.FloatType():
            return info.ge
        case inspect.StrType():
            return "x" * (info.min_length or 0)
        case inspect.BytesType():
            return ""
        case inspect.LiteralType():
            return info.values[0]
        case inspect.UnionType():
            return least(info.types[0])
        case inspect.ListType():
            return []
        case inspect.DictType():
            return {}
        case inspect.StructType():
            fields = {f.encode_name: least(f.type) for f in info.fields if f.required}
            return {**({info.tag_field: info.tag} if info.tag_field else {}), **fields}
    raise AssertionError(f"no least value for {info}")


def bounds(info: inspect.Type) -> Iterator[tuple[str, Json, Json]]:
    """Yield each bound in a type: its place, a value at it, and one past it."""
    match info:
        case inspect.IntType() | inspect.FloatType():
            step = 1 if isinstance(info, inspect.IntType) else 1.0
            for name, limit, sign in (("least", info.ge, -1), ("most", info.le, 1)):
                assert limit is not None
                yield name, limit, limit + sign * step
        case inspect.StrType():
            if info.min_length:
                yield "shortest", "x" * info.min_length, "x" * (info.min_length - 1)
            assert info.max_length is not None
            yield "longest", "\U0001f600" * info.max_length, "x" * (info.max_length + 1)
        case inspect.BytesType():
            assert info.max_length is not None
            good, bad = (base64.b64encode(bytes(info.max_length + n)).decode() for n in (0, 1))
            yield "longest", good, bad
        case inspect.UnionType():
            for member in info.types:
                yield from bounds(member)
        case inspect.ListType():
            assert info.max_length is not None
            item = least(info.item_type)
            yield "most items", [item] * info.max_length, [item] * (info.max_length + 1)
            for where, good, bad in bounds(info.item_type):
                yield f"[…] {where}", [good], [bad]
        case inspect.DictType():
            assert info.max_length is not None
            keys = [f"k{n}" for n in range(info.max_length + 1)]
            value = least(info.value_type)
            yield "most keys", dict.fromkeys(keys[1:], value), dict.fromkeys(keys, value)
            if isinstance(info.key_type, inspect.StrType) and info.key_type.max_length is not None:
                for where, good, bad in bounds(info.key_type):
                    yield f"key {where}", {good: value}, {bad: value}
            for where, good, bad in bounds(info.value_type):
                yield f"[…] {where}", {"k": good}, {"k": bad}
        case inspect.StructType():
            base = least(info)
            for field in info.fields:
                for where, good, bad in bounds(field.type):
                    name = f"{field.encode_name} {where}"
                    yield name, {**base, field.encode_name: good}, {**base, field.encode_name: bad}


def fields_of(struct: type[msgspec.Struct]) -> Mapping[str, inspect.Field]:
    """Return a struct's fields by their names on the wire."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: field for field in info.fields}
