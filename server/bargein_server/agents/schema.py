"""JSON schema and checking type of a tool, from signature and docstring."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta

from bargein_server.agent import Turn

_SECTION = re.compile(r"^(Args|Arguments|Returns|Yields|Raises|Example|Examples|Note|Notes):\s*$")
_ARGUMENT = re.compile(r"^(\w+)\s*(?:\([^)]*\))?:\s*(.*)$")


class NotATool(TypeError):
    """A function cannot be described to a model; the message names the reason."""


class Signature(NamedTuple):
    """Signature of a tool.

    Args:
        description: The docstring up to its first section.
        parameters: JSON schema of the arguments.
        arguments: Struct with the arguments as fields.
        turn: Name of the parameter that takes the `Turn`; it is hidden from the model.
    """

    description: str
    parameters: dict[str, Any]
    arguments: type[msgspec.Struct]
    turn: str | None


def read_signature(function: Callable[..., Any], name: str) -> Signature:
    """Return the signature of a function.

    Types are anything that msgspec can decode; a parameter without one takes any JSON value. The
    sections of the docstring are those of Google's style; `Args` describes the parameters.

    Raises:
        NotATool: A parameter cannot be given by name, or its type is unknown.
    """
    try:
        hints = get_type_hints(innermost(function), include_extras=True)
    except NameError as error:
        raise NotATool(f"{name}(): the type {error.name!r} is unknown where the tool is made") from error
    description, described = read_docstring(inspect.getdoc(function) or "")
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    turn = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise NotATool(f"{name}(): a model gives arguments by name, {parameter} cannot be given so")
        kind = hints.get(parameter.name, Any)
        if kind is Turn:
            turn = parameter.name
            continue
        if parameter.name in described:
            kind = Annotated[kind, Meta(description=described[parameter.name])]
        default = parameter.default
        fields.append((parameter.name, kind) if default is parameter.empty else (
            parameter.name, kind, _default(default)))  # fmt: skip
    arguments = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    return Signature(description, _schema(arguments, name), arguments, turn)


def innermost(function: Any) -> Any:
    """Return the function that a partial or a callable object finally calls."""
    while isinstance(function, partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return a docstring up to its first section, and the texts of its `Args`."""
    before: list[str] = []
    described: dict[str, str] = {}
    section, current, margin = "", "", 0
    for line in text.splitlines():
        if found := _SECTION.match(line):
            section, current = found[1], ""
        elif not section:
            before.append(line)
        elif section in ("Args", "Arguments") and line.strip():
            indent = len(line) - len(line.lstrip())
            margin = margin or indent
            argument = _ARGUMENT.match(line.strip()) if indent <= margin else None
            if argument:
                current = argument[1]
                described[current] = argument[2]
            elif current:
                described[current] = f"{described[current]} {line.strip()}".strip()
    return "\n".join(before).strip(), described


def _default(value: Any) -> Any:
    if isinstance(value, (list, dict, set)):
        return msgspec.field(default_factory=value.copy)
    return value


def _schema(arguments: type[msgspec.Struct], name: str) -> dict[str, Any]:
    try:
        _, components = msgspec.json.schema_components([arguments], ref_template="#/$defs/{name}")
    except TypeError as error:
        raise NotATool(f"{name}(): {error}") from error
    # The API requires the object itself at the top, not a reference to it.
    schema: dict[str, Any] = components.pop(arguments.__name__)
    schema.pop("title", None)
    if components:
        schema["$defs"] = components
    return schema
