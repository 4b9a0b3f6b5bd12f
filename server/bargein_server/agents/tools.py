"""Tools: typed Python functions that a model may call.

    @tool(on_interrupt="finish", timeout_s=20)
    async def book(flight: str, seats: int = 1) -> dict[str, str]:
        \"\"\"Book seats on a flight.

Args:
            flight: The flight's number, such as LH 123.
        \"\"\"

Name, schema and description come from the function. What the model writes is checked before the
function is called; what is wrong with it goes back to the model as an error result.

A tool is an async function, or a plain one, which runs in a thread, or an async generator: what it
yields of `Status`, `Progress`, `Data` and other outputs is sent at once, and the last value that is
no output is its result. A parameter annotated `Turn` gets the turn.

What an interrupt does to a tool that runs is `on_interrupt`: `cancel` raises `CancelledError` in it,
`finish` lets it go on in the background, bounded by its time-out. A thread cannot be killed. One that
is cancelled, or out of time, goes on unseen; if it returns after an interrupt its result still takes
its place in the history, as that of each tool does that finished (contract 8).
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, overload

import msgspec

from bargein_protocol import Output as OutputEvent
from bargein_protocol import RunsIn
from bargein_server.agent import Output, Turn

from .schema import NotATool, innermost, read_signature

OnInterrupt = Literal["cancel", "finish"]
Emit = Callable[[Output], Awaitable[None]]

TIMEOUT_S = 60.0


class ToolError(Exception):
    """Raised by a tool to tell the model, and the user, what went wrong.

    The words of any other exception stay on the server: the model learns only that the tool failed.
    """


class BadCall(Exception):
    """What the model wrote is no call of the tool; the message tells it why."""


class Tool:
    """A function that a model may call; see the module. Calling it calls the function.

    Attributes:
        name: What the model calls it.
        description: What the model is told of it.
        parameters: The JSON schema of its arguments.
        on_interrupt: What an interrupt does to it while it runs.
        timeout_s: After so many seconds it has failed.
        confirm: Whether the client must allow each call.
        runs_in: Where it runs.
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
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        if runs_in == "client" and on_interrupt == "finish":
            raise NotATool(f"{self.name}(): what runs in the client ends with the turn, it cannot finish")
        plain = innermost(function)
        if inspect.isgeneratorfunction(plain):
            raise NotATool(f"{self.name}(): write `async def`, or return the result instead of yielding it")
        signature = read_signature(function, self.name)
        self.description = description or signature.description
        self.parameters = signature.parameters
        self.on_interrupt = on_interrupt
        self.timeout_s = timeout_s
        self.confirm = confirm
        self.runs_in = runs_in
        self._yields = inspect.isasyncgenfunction(plain)
        self._awaits = inspect.iscoroutinefunction(plain)
        self.threaded = not (self._yields or self._awaits or quick)
        self._function = function
        self._arguments = signature.arguments
        self._turn = signature.turn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def specification(self) -> dict[str, Any]:
        """Return the tool as the API of chat completions describes one."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def check(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function takes them.

        Raises:
            BadCall: They do not fit the schema.
        """
        try:
            checked = msgspec.convert(arguments, self._arguments)
        except msgspec.ValidationError as error:
            raise BadCall(str(error)) from None
        return {name: getattr(checked, name) for name in self._arguments.__struct_fields__}

    def bind(self, arguments: dict[str, Any], turn: Turn) -> partial[Any]:
        """Return the function with its checked arguments, ready to be called."""
        if self._turn is not None:
            arguments = {**arguments, self._turn: turn}
        return partial(self._function, **arguments)

    async def run(self, function: partial[Any], emit: Emit) -> Any:
        """Run what `bind` returned, unless it is `threaded`; return its result.

        Its first step is taken before anything is awaited, and after its last one nothing is.
        """
        if self._yields:
            return await _run_generator(function(), emit)
        result = function()
        return await result if self._awaits or inspect.isawaitable(result) else result


async def _run_generator(generator: AsyncGenerator[Any, None], emit: Emit) -> Any:
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

            name: What the model calls it; the function's name if None.
            description: What the model is told; the docstring up to its first section if None.
            on_interrupt: `cancel` it, or let it `finish` in the background.
            timeout_s: Seconds after which it has failed.
            confirm: Ask the client before each call; it answers with `tool.decision`.
            runs_in: `client`: the client runs it and answers with `tool.output`; the function is
                never called and gives only name, schema and description.
            quick: A plain function that returns at once: it is called on the event loop instead of in
                a thread.

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
