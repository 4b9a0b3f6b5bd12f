"""Plain values: text and JSON values made from the objects of authors.

Frameworks return subclasses of `str`, Pydantic models, arrays of NumPy, and halves of a UTF-16 pair. The
encoders of the protocol accept only plain values. A tool has had its effect when its result exists, so a
result is never refused for its form: it is converted, and cut where it exceeds the bounds of the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set, ValuesView
from enum import Enum
from typing import Any

import msgspec

from bargein_protocol.types import MAX_DEPTH, MAX_VALUES

ERRORS = (Exception, SystemExit, KeyboardInterrupt)
"""Everything that the methods of an author's object may raise."""

_MARKS = 256  # values that the marks take: two for each level of nesting

CIRCULAR = "[circular]"
TOO_DEEP = "[nested too deeply]"


def plain_text(text: str) -> str:
    """Return text as an exact `str` that UTF-8 can hold.

    Two halves of a UTF-16 pair become their character; a half alone becomes `?`.
    """
    plain = str.__str__(text)  # a subclass may have another `__str__`, as an enumeration does
    if plain.isascii():
        return plain
    try:
        plain.encode()
    except UnicodeEncodeError:
        joined = plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return joined.encode("utf-8", "replace").decode()
    return plain


def plain_value(value: object, *, any_object: bool = False, cut: bool = False) -> Any:
    """Return an equal JSON value of exact built-in types.

    Models (`model_dump`), objects with `__json__`, arrays (`tolist`), dataclasses, attrs classes, structs,
    sets, bytes (base64), dates and enumerations have a form of their own.

    Args:
        value: The value; it is not changed.
        any_object: Take the `str()` of an object without a form.
        cut: Replace what exceeds the bounds of the protocol by a mark.

    Raises:
        TypeError: An object has no form, and `any_object` is false.
        ValueError: A value exceeds a bound, and `cut` is false.
    """
    return _Converter(any_object, cut).convert(value, 0)


class _Converter:
    """Conversion of one value.

    Args:
        any_object: As in `plain_value`.
        cut: As in `plain_value`.
    """

    def __init__(self, any_object: bool, cut: bool) -> None:
        self._any_object = any_object
        self._cut = cut
        self._left = MAX_VALUES - _MARKS if cut else MAX_VALUES
        self._open: set[int] = set()  # containers around the current value

    def convert(self, value: Any, depth: int) -> Any:
        """Return the plain form of a value at a depth."""
        if value is None or value is True or value is False:
            return value
        if isinstance(value, Enum):
            return self.convert(value.value, depth)
        if isinstance(value, str):
            return plain_text(value)
        if isinstance(value, int):
            return int(value)
        if isinstance(value, float):
            return float(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return msgspec.to_builtins(bytes(value))
        if id(value) in self._open:
            return self._mark(CIRCULAR)
        if depth >= MAX_DEPTH:
            return self._mark(TOO_DEEP)
        self._open.add(id(value))
        try:
            if isinstance(value, Mapping):
                return self._mapping(value, depth + 1)
            if isinstance(value, (Sequence, Set, ValuesView)):
                return self._sequence(value, depth + 1)
            return self._object(value, depth)
        finally:
            self._open.discard(id(value))

    def _mapping(self, mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for key, value in mapping.items():
            if not self._take(2):
                plain["…"] = self._mark(f"[{len(mapping) - len(plain)} more]")
                break
            plain[self._key(key)] = self.convert(value, depth)
        return plain

    def _sequence(self, items: Collection[Any], depth: int) -> list[Any]:
        plain: list[Any] = []
        for item in items:
            if not self._take(1):
                plain.append(self._mark(f"[{len(items) - len(plain)} more]"))
                break
            plain.append(self.convert(item, depth))
        return plain

    def _key(self, key: Any) -> str:
        key = key.value if isinstance(key, Enum) else key
        if isinstance(key, str):
            return plain_text(key)
        if key is None or isinstance(key, bool):
            return {None: "null", True: "true", False: "false"}[key]
        return text_of(key)

    def _object(self, value: Any, depth: int) -> Any:
        for form in _FORMS:
            try:
                found = form(value)
            except ERRORS:  # the author's code: another form follows
                continue
            if found is not value:
                return self.convert(found, depth + 1)
        if self._any_object:
            return text_of(value)
        raise TypeError(f"objects of type {type(value).__name__} have no form in JSON")

    def _take(self, count: int) -> bool:
        self._left -= count
        return self._left >= 0

    def _mark(self, mark: str) -> str:
        if not self._cut:
            bounds = f"at most {MAX_VALUES} values and {MAX_DEPTH} nested levels"
            raise ValueError(f"expected {bounds}, got a value with {mark}")
        return mark


def text_of(value: Any) -> str:
    """Return the `str()` of an object, or its type if that raises."""
    try:
        return plain_text(value if isinstance(value, str) else str(value))
    except ERRORS:  # the author's `__str__`
        return f"<{type(value).__name__}>"


def _by_method(name: str, **options: Any) -> Callable[[Any], Any]:
    def form(value: Any) -> Any:
        if isinstance(value, type):  # its methods need an instance
            return value
        return getattr(value, name)(**options)

    return form


def _by_fields(value: Any) -> Any:
    """Return the fields of a struct, a dataclass or an attrs object."""
    if isinstance(value, type):
        return value
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {} if config.tag is None else {str(config.tag_field): config.tag}
        return tag | {
            field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(value)
        }
    names = getattr(value, "__dataclass_fields__", None) or [field.name for field in value.__attrs_attrs__]
    return {name: getattr(value, name) for name in names if not name.startswith("_") and hasattr(value, name)}


def _by_msgspec(value: Any) -> Any:
    """Return the form of dates, UUIDs, decimals and others."""
    return msgspec.to_builtins(value, str_keys=True)


_FORMS: tuple[Callable[[Any], Any], ...] = (
    _by_method("model_dump", mode="json"),
    _by_method("__json__"),
    _by_method("tolist"),
    _by_fields,
    _by_msgspec,
)
