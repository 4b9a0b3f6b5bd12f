"""Pydantic's models and fields in the signatures of tools.

Tools are described with msgspec. These functions give it the schema and the values of Pydantic's types, found
by their methods, so that Pydantic is no requirement.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any, NamedTuple

from msgspec import Meta


def schema_of(kind: Any) -> dict[str, Any]:
    """Return the JSON schema of a Pydantic model; a hook of msgspec.

    Raises:
        NotImplementedError: The type is none.
    """
    if not isinstance(kind, type) or not hasattr(kind, "model_json_schema"):
        raise NotImplementedError
    schema: dict[str, Any] = kind.model_json_schema()
    return schema


def value_of(kind: Any, value: Any) -> Any:
    """Return an instance of a Pydantic model; a hook of msgspec.

    Raises:
        NotImplementedError: The type is none.
        ValueError: The value does not fit the model.
    """
    if not hasattr(kind, "model_validate"):
        raise NotImplementedError
    validate: Callable[[Any], Any] = kind.model_validate
    if isinstance(value, str):
        validate = kind.model_validate_json
    try:
        return validate(value)
    except ValueError as error:
        raise ValueError(_shortened(error)) from None


def _shortened(error: Any) -> str:
    """Return the errors of a validation in one line, without links."""
    try:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
    except (AttributeError, TypeError, KeyError):
        return str(error)


def hoisted(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with its nested `$defs` at the top, for references."""
    definitions: dict[str, Any] = {}

    def lifted(value: Any) -> Any:
        if isinstance(value, list):
            return [lifted(item) for item in value]
        if not isinstance(value, dict):
            return value
        result = {name: lifted(item) for name, item in value.items() if name != "$defs"}
        inner = value.get("$defs")
        if isinstance(inner, dict):
            definitions.update({name: lifted(item) for name, item in inner.items()})
        return result

    result: dict[str, Any] = lifted(schema)
    return result | {"$defs": definitions} if definitions else result


_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length", "max_length", "pattern")


def described(kind: Any) -> Any:
    """Return a type whose description and bounds are in the form of msgspec.

    They may stand in `Annotated` as a text, as Pydantic's `Field`, or as the bounds of `annotated_types`.
    """
    found: dict[str, Any] = {}
    for extra in getattr(kind, "__metadata__", ()):
        if isinstance(extra, Meta):
            continue
        if isinstance(text := extra if isinstance(extra, str) else getattr(extra, "description", None), str):
            found["description"] = text
        for bound in [extra, *_items(getattr(extra, "metadata", None))]:
            found |= {name: value for name in _BOUNDS if (value := getattr(bound, name, None)) is not None}
    return Annotated[kind, Meta(**found)] if found else kind


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class FieldDefault(NamedTuple):
    """Default of a parameter.

    Args:
        value: The default; `Parameter.empty` for a required parameter.
        description: Description in a Pydantic `Field`.
    """

    value: Any
    description: str | None


def default_of(value: Any) -> FieldDefault:
    """Return the default of a parameter, which may be a Pydantic `Field`."""
    if not (hasattr(value, "is_required") and hasattr(value, "get_default")):
        return FieldDefault(value, None)
    own = Parameter.empty if value.is_required() else value.get_default(call_default_factory=True)
    return FieldDefault(own, value.description)
