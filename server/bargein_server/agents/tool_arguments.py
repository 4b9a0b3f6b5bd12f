"""Arguments of tool calls, coerced to the types of a tool's parameters.

Models write `"5"` or `5.0` for an integer, `"true"` for a boolean, `null` for an optional parameter, and
sometimes JSON inside a string. Such a call is understood instead of refused: a refusal costs a model call,
and many models repeat the mistake. The rules are those of Pydantic's lax mode; in addition a number is
accepted for a string, and a string that holds a JSON array or object for one.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

import msgspec
from msgspec import inspect

from bargein_server.agent import plain_text, plain_value

from .model_fields import cleaned

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_MAX_LITERAL_CHARS = 10_000
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
_MAX_INT = 2**63  # a larger float is no exact number
_ARRAYS = (
    inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType, inspect.TupleType,
    inspect.NamedTupleType,
)  # fmt: skip
_OBJECTS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType, inspect.DictType)


class BadArguments(ValueError):
    """Arguments are not a JSON object; the message is for the model."""


def decode_arguments(text: str) -> dict[str, Any]:
    """Return the arguments that a model wrote.

    No text, `null` and `[]` are no arguments. Text around the object, such as a fence of Markdown or a token
    of the model's format, is left out. Lone surrogates are replaced.

    Raises:
        BadArguments: The text is not a JSON object.
    """
    text = plain_text(text).strip()
    decoded = _decode_around(text) if text else {}
    if isinstance(decoded, str):  # encoded twice
        decoded = _decode_around(decoded)
    if isinstance(decoded, list) and len(decoded) <= 1:
        decoded = decoded[0] if decoded else {}
    if decoded is None:
        return {}
    if not isinstance(decoded, dict):
        raise BadArguments("the arguments are not a JSON object")
    return decoded


def readable_arguments(text: str) -> str:
    """Return arguments as one JSON object, if it can be made out.

    Escapes of half surrogate pairs are replaced, and text around the object is left out.
    """
    try:
        if not text or (not _SURROGATE_ESCAPE.search(text) and isinstance(msgspec.json.decode(text), dict)):
            return text
    except (ValueError, RecursionError):
        pass
    try:
        if isinstance(decoded := cleaned(json.loads(text)), dict):
            return json.dumps(decoded, ensure_ascii=False)
    except (ValueError, RecursionError):
        pass
    try:
        return json.dumps(decode_arguments(text), ensure_ascii=False)
    except BadArguments:
        return text


def _decode_around(text: str) -> Any:
    """Decode JSON, or the one object in a text that is not JSON."""
    try:
        return _decode(text)
    except BadArguments:
        begin = text.find("{")
        if begin < 0:
            raise
    found = _first_object(text[begin:]) or _literal(text[begin:])
    if found is None:
        raise BadArguments("the arguments are not JSON")
    return found


def _first_object(text: str) -> Any:
    """Return the object with which a text begins, if no other one follows."""
    try:
        found, end = json.JSONDecoder().raw_decode(text)
        rest = text[end:].strip()
        if not found and rest.startswith("{"):  # some servers send {} first
            found, end = json.JSONDecoder().raw_decode(rest)
            rest = rest[end:]
    except (ValueError, RecursionError):
        return None
    return None if "{" in rest else plain_value(found)


def _literal(text: str) -> Any:
    """Return an object in the notation of Python; None for another text."""
    try:
        found = ast.literal_eval(text) if len(text) <= _MAX_LITERAL_CHARS else None
        return plain_value(found) if isinstance(found, dict) else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        # The standard library accepts the escape of a lone surrogate.
        return plain_value(json.loads(text))
    except (ValueError, RecursionError):
        raise BadArguments("the arguments are not JSON") from None


def coerce(value: Any, kind: inspect.Type) -> Any:
    """Return a JSON value in the form of a type; unchanged without such form.

    Args:
        value: The value; it is not changed.
        kind: The type, as `msgspec.inspect` describes it.
    """
    match kind:
        case inspect.Metadata(type=inner):
            return coerce(value, inner)
        case inspect.UnionType(types=types):
            return _coerce_union(value, types)
        case inspect.IntType():
            return _to_int(value)
        case inspect.FloatType():
            return _to_float(value)
        case inspect.BoolType():
            return _to_bool(value)
        case inspect.StrType():
            return _to_str(value)
        case inspect.LiteralType(values=values):
            return _coerce_literal(value, values)
        case inspect.EnumType(cls=enum):
            return _coerce_literal(value, [member.value for member in enum])
        case inspect.DictType() | inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType():
            return _coerce_object(_decoded(value, dict), kind)
    return _coerce_array(_decoded(value, list), kind) if isinstance(kind, _ARRAYS) else value


def _coerce_object(value: Any, kind: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if isinstance(kind, inspect.DictType):
        return {key: coerce(item, kind.value_type) for key, item in value.items()}
    return coerce_fields(value, kind.fields)


def _coerce_array(value: Any, kind: Any) -> Any:
    if not isinstance(value, list):
        return value
    if isinstance(kind, inspect.NamedTupleType):
        kinds = [field.type for field in kind.fields]
    elif isinstance(kind, inspect.TupleType):
        kinds = list(kind.item_types)
    else:
        return [coerce(item, kind.item_type) for item in value]
    return [coerce(item, inner) for item, inner in zip(value, kinds, strict=False)] + value[len(kinds) :]


def coerce_fields(values: dict[str, Any], fields: Sequence[inspect.Field]) -> dict[str, Any]:
    """Return an object in the form that its fields want.

    A `null` for an optional field that cannot be null counts as absent.
    """
    known = {field.encode_name: field for field in fields}
    coerced: dict[str, Any] = {}
    for name, value in values.items():
        field = known.get(name)
        if field is None:
            coerced[name] = value
        elif value is not None or field.required or _nullable(field.type):
            coerced[name] = coerce(value, field.type)
    return coerced


def _nullable(kind: inspect.Type) -> bool:
    match kind:
        case inspect.Metadata(type=inner):
            return _nullable(inner)
        case inspect.UnionType(types=types):
            return any(map(_nullable, types))
    return isinstance(kind, (inspect.NoneType, inspect.AnyType))


def _coerce_union(value: Any, kinds: Sequence[inspect.Type]) -> Any:
    """Return the value for the first type that holds it, else converted."""
    if any(_holds(value, kind) for kind in kinds):
        kinds = [kind for kind in kinds if _holds(value, kind)]
    for kind in kinds:
        coerced = coerce(value, kind)
        if _holds(coerced, kind):
            return coerced
    return value


def _holds(value: Any, kind: inspect.Type) -> bool:
    """Return whether a JSON value has the kind of a type; bounds do not count."""
    match kind:
        case inspect.Metadata(type=inner):
            return _holds(value, inner)
        case inspect.UnionType(types=types):
            return any(_holds(value, inner) for inner in types)
        case inspect.AnyType():
            return True
        case inspect.NoneType():
            return value is None
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.FloatType():
            return _is_number(value)
        case inspect.LiteralType(values=values):
            return any(value == one and type(value) is type(one) for one in values)
    if isinstance(kind, _OBJECTS):
        return isinstance(value, dict)
    if isinstance(kind, _ARRAYS):
        return isinstance(value, list)
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _coerce_literal(value: Any, values: Sequence[Any]) -> Any:
    for form in (value, _to_int(value), _to_str(value)):
        if any(form == one and type(form) is type(one) for one in values):
            return form
    return value


def _to_str(value: Any) -> Any:
    return json.dumps(value) if _is_number(value) else value


def _to_int(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            value = int(value) if len(value) < 400 else value
        except ValueError:
            value = _to_float(value)
    whole = isinstance(value, float) and value.is_integer() and abs(value) < _MAX_INT
    return int(value) if whole else value


def _to_float(value: Any) -> Any:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value
        return number if isfinite(number) else value
    return value


def _to_bool(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip().lower()
        return True if text in _TRUE else False if text in _FALSE else value
    return bool(value) if _is_number(value) and value in (0, 1) else value


def _decoded(value: Any, kind: type[list[Any]] | type[dict[Any, Any]]) -> Any:
    """Return the array or the object in a string that holds its JSON."""
    if not isinstance(value, str) or not value.strip().startswith("[" if kind is list else "{"):
        return value
    try:
        found = _decode(value)
    except BadArguments:
        return value
    return found if isinstance(found, kind) else value
