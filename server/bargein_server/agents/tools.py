"""Tools: typed Python functions that a model may call.

    @tool(on_interrupt="finish", timeout_s=20)
    async def book(flight: str, seats: int = 1) -> dict[str, str]:
        \"\"\"Book seats on a flight.

Args:
            flight: The flight's number, such as LH 123.
        \"\"\"

Name, schema and description come from the function. The model's arguments are converted to the types of the
parameters before the function is called; a mistake goes back to the model as an error result.

A tool is an async function, a plain function, which runs in a thread, or an async generator. The outputs
of a generator (`Status`, `Progress`, `Data` and others) are sent immediately, and its last other value is the
result. A parameter annotated `Turn` gets the turn.

`on_interrupt` decides the effect of an interrupt on a running tool: `cancel` raises `CancelledError` in it,
`finish` lets it continue in the background, bounded by its timeout. A thread cannot be killed: after a cancel
or its timeout it continues without effect on the turn. If it returns after an interrupt, its result still
enters the history, as the result of every finished tool does (contract 8).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from copy import copy
from functools import partial
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints, overload

import msgspec
import msgspec.inspect
from msgspec import Meta

from bargein_protocol import Output as OutputEvent
from bargein_protocol import RunsIn
from bargein_protocol.types import MAX_VALUES
from bargein_server.agent import Output, Turn

from . import pydantic_types
from .tool_arguments import coerce_fields

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

    Types are anything that msgspec can decode, and Pydantic's models; a parameter without one takes any
    JSON value. The sections of the docstring are those of Google's style; `Args` describes the parameters.

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
        kind = pydantic_types.described(hints.get(parameter.name, Any))
        if kind is Turn:
            turn = parameter.name
            continue
        default, text = pydantic_types.default_of(parameter.default)
        if text := described.get(parameter.name, text):
            kind = Annotated[kind, Meta(description=text)]
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
    if isinstance(value, (list, dict, set, msgspec.Struct)) or hasattr(value, "model_dump"):
        return msgspec.field(default_factory=partial(copy, value))
    return value


def _schema(arguments: type[msgspec.Struct], name: str) -> dict[str, Any]:
    try:
        _, components = msgspec.json.schema_components(
            [arguments], schema_hook=pydantic_types.schema_of, ref_template="#/$defs/{name}"
        )
    except TypeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise NotATool(f"{name}(): {reason}; types are those of msgspec, and Pydantic's models") from error
    # The API requires the object itself at the top, not a reference to it.
    schema: dict[str, Any] = components.pop(arguments.__name__)
    schema.pop("title", None)
    if components:
        schema["$defs"] = components
    return pydantic_types.hoisted(schema)


OnInterrupt = Literal["cancel", "finish"]
Emit = Callable[[Output], Awaitable[None]]

TIMEOUT_S = 60.0


class ToolError(Exception):
    """Raised by a tool to report an error to the model and the user.

    The text of any other exception stays on the server: the model gets only "the tool failed".
    """


class BadCall(Exception):
    """A model's call is invalid; the message goes back to the model."""


class Tool:
    """A function that a model may call; made by `tool`.

    Attributes:
        name: Its name for the model.
        description: Its description for the model.
        parameters: JSON schema of its arguments.
        on_interrupt: Effect of an interrupt while it runs.
        timeout_s: Seconds after which a call has failed.
        confirm: Whether the client must allow each call.
        runs_in: `server` or `client`.
        threaded: Whether it runs in a thread.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        on_interrupt: OnInterrupt = "cancel",
        timeout_s: float = TIMEOUT_S,
        confirm: bool = False,
        runs_in: RunsIn = "server",
        quick: bool = False,
    ) -> None:
        self.name: str = name or str(getattr(function, "__name__", type(function).__name__))
        if runs_in == "client" and on_interrupt == "finish":
            raise NotATool(
                f"{self.name}(): a tool that runs in the client ends with the turn, it cannot finish"
            )
        plain = innermost(function)
        if inspect.isgeneratorfunction(plain):
            raise NotATool(f"{self.name}(): write `async def`, or return the result instead of yielding it")
        signature = read_signature(function, self.name)
        self.description: str = description or signature.description
        self.parameters: dict[str, Any] = signature.parameters
        self.on_interrupt = on_interrupt
        self.timeout_s = timeout_s
        self.confirm = confirm
        self.runs_in = runs_in
        self._yields = inspect.isasyncgenfunction(plain)
        self._awaits = inspect.iscoroutinefunction(plain)
        self.threaded: bool = not (self._yields or self._awaits or quick)
        self._function = function
        self._arguments = signature.arguments
        described = msgspec.inspect.type_info(signature.arguments)
        assert isinstance(described, msgspec.inspect.StructType)
        self._fields = {field.encode_name: field for field in described.fields}
        self._turn = signature.turn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def specification(self) -> dict[str, Any]:
        """Return the tool in the format of the chat-completions API."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def check(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments converted to the parameters' types.

        Values are coerced (`tool_arguments`), and unknown arguments are left out.

        Raises:
            BadCall: The arguments do not fit the schema.
        """
        known = {name: value for name, value in arguments.items() if name in self._fields}
        try:
            checked = self._convert(known)
        except msgspec.ValidationError as error:
            raise BadCall(str(error)) from None
        except RecursionError:
            raise BadCall("the arguments are nested too deeply") from None
        return {name: getattr(checked, name) for name in self._arguments.__struct_fields__}

    def unknown(self, arguments: dict[str, Any]) -> list[str]:
        """Return the names of the arguments that the tool does not have."""
        return [name for name in arguments if name not in self._fields]

    def _convert(self, known: dict[str, Any]) -> Any:
        convert = partial(msgspec.convert, type=self._arguments, dec_hook=pydantic_types.value_of)
        try:
            return convert(known)
        except msgspec.ValidationError as error:
            coerced = coerce_fields(known, tuple(self._fields.values()))
            try:
                return convert(coerced)
            except msgspec.ValidationError:
                pass
            try:
                return msgspec.convert(
                    coerced, self._arguments, strict=False, dec_hook=pydantic_types.value_of
                )
            except msgspec.ValidationError:
                raise error from None  # in the words of the schema

    def bind(self, arguments: dict[str, Any], turn: Turn) -> partial[Any]:
        """Return the function with its checked arguments, ready to be called."""
        if self._turn is not None:
            arguments = {**arguments, self._turn: turn}
        return partial(self._function, **arguments)

    async def run(self, function: partial[Any], emit: Emit) -> Any:
        """Run a bound function that is not `threaded`, and return its result.

        Nothing is awaited before the function's first step or after its last.
        """
        if self._yields:
            return await _run_generator(function(), emit)
        return await finish(listed(function()), emit)


async def finish(value: Any, emit: Emit) -> Any:
    """Return the result of a call whose value may have to be run first.

    A decorator may hide that from a look at the function.
    """
    while is_unfinished(value):
        value = await _run_generator(value, emit) if inspect.isasyncgen(value) else listed(await value)
    return value


def is_unfinished(value: Any) -> bool:
    """Return whether a value is a coroutine or an async generator."""
    return inspect.iscoroutine(value) or inspect.isasyncgen(value)


def listed(value: Any) -> Any:
    """Return an iterator's items as a list, any other value as it is."""
    return list(islice(value, MAX_VALUES)) if isinstance(value, Iterator) else value


async def _run_generator(generator: AsyncGenerator[Any, Any], emit: Emit) -> Any:
    result = None
    async with aclosing(generator):
        async for value in generator:
            if isinstance(value, OutputEvent):
                await emit(value)  # type: ignore[arg-type]
            else:
                result = value
    return result


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    on_interrupt: OnInterrupt = "cancel",
    timeout_s: float = TIMEOUT_S,
    confirm: bool = False,
    runs_in: RunsIn = "server",
    quick: bool = False,
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(function: Callable[..., Any] | None = None, /, **how: Any) -> Any:
    """Make a function a tool: `@tool`, or `@tool(…)`.

    Args:
        function: The function.
        how: The keyword arguments of `Tool`:

            name: Its name for the model; the function's name if None.
            description: Its description for the model; the docstring up to its first section if None.
            on_interrupt: `cancel` it, or let it `finish` in the background.
            timeout_s: Seconds after which a call has failed.
            confirm: Ask the client before each call; it answers with `tool.decision`.
            runs_in: `client`: the client runs it and answers with `tool.output`; the function is
                never called and provides only name, schema and description.
            quick: For a plain function that never blocks: call it on the event loop instead of in a
                thread.

    Raises:
        NotATool: The function cannot be described to a model.
    """
    return partial(Tool, **how) if function is None else Tool(function, **how)


def toolset(functions: Iterable[Tool | Callable[..., Any]]) -> dict[str, Tool]:
    """Return tools by name; functions become tools with the defaults.

    Raises:
        NotATool: Two have the same name, or a function cannot be described to a model.
    """
    tools: dict[str, Tool] = {}
    for function in functions:
        made = function if isinstance(function, Tool) else Tool(function)
        if made.name in tools:
            raise NotATool(f"expected different names, got {made.name!r} twice")
        tools[made.name] = made
    return tools
