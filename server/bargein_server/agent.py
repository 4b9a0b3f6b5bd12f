"""Interface between agent and server: `Agent`, `Turn` and `Output`.

An agent is an async generator function of one argument, the `Turn`. Its output goes to the client: a `str`
is a piece of the answer, structs of `bargein_protocol` are everything else. When the turn is interrupted,
the generator is cancelled at its current `await` or `yield`: `CancelledError` is raised there, `finally`
blocks run and may await for a bounded time, and later output is dropped.

    async def agent(turn: Turn):
        yield turn.status("Thinking…")
        async for word in my_model(turn.history.messages()):
            yield word
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from msgspec.structs import replace

from bargein_protocol import (
    AgentOutput,
    CallId,
    Data,
    InputText,
    Progress,
    SessionId,
    Status,
    TextDelta,
    Thought,
    ToolDecision,
    ToolOutput,
    ToolResult,
    TurnId,
)

from .core.history import History as History
from .core.messages import Message as Message
from .core.messages import NamedCall as NamedCall
from .core.messages import calls_message as calls_message
from .core.messages import result_message as result_message
from .core.spans import NO_SPAN as NO_SPAN
from .core.spans import Attribute as Attribute
from .core.spans import Span as Span

# Agents import the parts of the core that a tool loop needs from this module only.
from .core.validation import BadOutput as BadOutput
from .core.validation import validated_output as validated_output

if TYPE_CHECKING:
    import httpx2

Output = str | AgentOutput
"""Type of the values that an agent yields."""

T = TypeVar("T")
A = TypeVar("A", ToolOutput, ToolDecision)


class TurnClosed(asyncio.CancelledError):
    """The turn has ended, so the operation is not possible any more.

    It is a `CancelledError`, so code that retries or apologises after an `Exception` does not catch it.
    """


class TurnFailed(Exception):
    """Raised by an agent to end its turn as `failed`, with a public reason.

    Args:
        reason: One of the protocol's reasons, such as `upstream` or `overload`.
        retryable: Whether the same input may succeed when sent again.

    The exception's cause is logged on the server and not sent to the client.
    """

    def __init__(self, reason: str = "agent_error", *, retryable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable


class Calls(Protocol):
    """The books of a turn's tool calls, for who writes a tool loop; `agents.tools` is one.

    What is yielded tells the client of a call; what is entered here is what counts for the history,
    whatever became of the frames (contract 8).
    """

    @property
    def confirm_s(self) -> float:
        """How long a call waits for the user's decision, in seconds."""
        ...

    def claim(self, wanted: str = "") -> CallId:
        """Return an id for a call: `wanted` unless another call of the session has it."""
        ...

    async def begin(
        self,
        call_id: CallId,
        name: str,
        arguments: dict[str, Any],
        *,
        source: str = "",
        goes_on: bool = False,
        late: bool = False,
    ) -> None:
        """Enter that a tool begins; let it begin in the same step, with no await between.

        It waits while the turn is held or the client is slow.

        Args:
            call_id: A claimed id.
            name: The tool.
            arguments: All of them.
            source: The voice that calls it.
            goes_on: An interrupt does not stop it: history holds `running` until it settles.
            late: It cannot be stopped: its result counts however late it comes.

        Raises:
            TurnClosed: The turn has ended: the tool must not begin.
        """
        ...

    def settle(self, result: ToolResult) -> bool:
        """Enter what came of a call, in the step in which it came, after the turn's end too.

        Returns:
            Whether it counts: not when it never began, has a result already, or comes too late.
        """
        ...

    def expect(self, call_id: CallId, kind: type[A]) -> asyncio.Future[A]:
        """Return the client's answer to come, `ToolOutput` or `ToolDecision`.

        Call it before the client is asked. Cancelling the future gives up: an answer is too late then.
        It is cancelled when the turn ends.
        """
        ...


class TurnHost(Protocol):
    """Host of a running turn, the server's side of `Turn`."""

    @property
    def calls(self) -> Calls:
        """Ledger of the turn's tool calls."""
        ...

    def spawn(self, work: Coroutine[Any, Any, T], outlive: bool) -> asyncio.Task[T]:
        """Run a coroutine concurrently with the agent."""
        ...

    async def emit(self, output: Output) -> None:
        """Send output as if the agent had yielded it."""
        ...

    def section(self) -> AbstractAsyncContextManager[None]:
        """Return an uninterruptible section."""
        ...

    def http_client(self) -> httpx2.AsyncClient:
        """Return the HTTP client whose streams end with the turn."""
        ...

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Add to the turn's usage."""
        ...

    def span(self, name: str, kind: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a span in the trace of the turn."""
        ...


class SessionContext(Protocol):
    """View of a turn's session for its agent."""

    @property
    def id(self) -> SessionId:
        """Public id of the session."""
        ...

    @property
    def metadata(self) -> dict[str, Any]:
        """Merged parameters from `session.update`."""
        ...

    @property
    def principal(self) -> str | None:
        """Principal of the client; None without authentication."""
        ...

    @property
    def state(self) -> dict[str, Any]:
        """Values of the agent's author, kept as long as the session."""
        ...


class Turn:
    """One turn, as seen by its agent.

    Attributes:
        id: The turn's id.
        input: The input that requested it, with its metadata.
        history: The conversation so far; see `History.messages`.
        session: The session of the turn.
        source: The name of one of several agents in the turn; empty for the main lane.
    """

    __slots__ = ("_host", "_main", "_reason", "history", "id", "input", "session", "source")

    def __init__(
        self, turn_id: TurnId, asked_by: InputText, history: History, session: SessionContext, host: TurnHost
    ) -> None:
        self.id: TurnId = turn_id
        self.input: InputText = asked_by
        self.history: History = history
        self.session: SessionContext = session
        self.source: str = ""
        self._reason: str | None = None
        self._main: Turn | None = (
            None  # the turn that this one is a lane of; never itself, which would be a cycle
        )
        self._host = host

    @property
    def reason(self) -> str | None:
        """Reason of the turn's end; None while it runs.

        It is set before the cancel arrives, so a `finally` block can read it.
        """
        return (self._main or self)._reason

    @reason.setter
    def reason(self, reason: str) -> None:
        (self._main or self)._reason = reason

    @property
    def calls(self) -> Calls:
        """Ledger of the turn's tool calls."""
        return self._host.calls

    def speaking_as(self, source: str) -> Turn:
        """Return the same turn for one of several agents, named by `source`."""
        turn = Turn(self.id, self.input, self.history, self.session, self._host)
        turn.source = source
        turn._main = self._main or self
        return turn

    def voiced(self, output: Output) -> Output:
        """Return output with the `source` of this turn, unless it has one."""
        if not self.source or output is None:
            return output
        if isinstance(output, str):
            return TextDelta(text=output, source=self.source)
        return output if output.source else replace(output, source=self.source)

    @property
    def text(self) -> str:
        """The user's text."""
        return self.input.text

    @property
    def principal(self) -> str | None:
        """Principal of the client; None without authentication."""
        return self.session.principal

    def status(self, message: str, icon: str | None = None) -> Status:
        """Return a status to yield: the current activity in a few words."""
        return Status(message=message, icon=icon)

    def thought(self, text: str) -> Thought:
        """Return a piece of thinking to yield."""
        return Thought(text=text)

    def progress(
        self, value: float, total: float | None = None, unit: str | None = None, label: str | None = None
    ) -> Progress:
        """Return a progress to yield: `value` of `total`, in `unit`."""
        return Progress(value=value, total=total, unit=unit, label=label)

    def data(self, name: str, value: Any) -> Data:
        """Return an event of the application to yield; `value` is any JSON value."""
        return Data(name=name, value=value)

    async def emit(self, output: Output) -> None:
        """Send output from a callback or a child task, as if the agent yielded it.

        It waits while the turn is held or the client is slow. Cancelling it is safe: the output was
        taken completely, or not at all.

        Raises:
            TurnClosed: The turn has ended.
        """
        await self._host.emit(self.voiced(output))

    def uninterruptible(self) -> AbstractAsyncContextManager[None]:
        """Return an uninterruptible section, to be used with `async with`.

        Output of the section is sent in any case. An interrupt during the section is answered
        `deferred` and takes effect when the section is over and its output is written. A forced
        interrupt and the end of the session do not wait. Entering the section raises `TurnClosed` when
        the turn has ended.
        """
        return self._host.section()

    def http_client(self) -> httpx2.AsyncClient:
        """Return the HTTP client for model calls, such as those of `AsyncOpenAI`.

        The server owns it; do not close it. Each response stream that is opened through it in this turn
        is closed when the turn ends, whatever the agent does then. Later requests raise `TurnClosed`.

        Raises:
            RuntimeError: `httpx2` is not installed.
        """
        return self._host.http_client()

    def spawn(self, work: Coroutine[Any, Any, T], *, outlive: bool = False) -> asyncio.Task[T]:
        """Run a coroutine in a task that is cancelled in the step of the fence.

        Await the task before the generator returns; a task that is left then is cancelled too.

        Args:
            work: The coroutine; it is closed when the turn has ended already.
            outlive: Let the task go on after the turn's end, uncancelled and outside the turn's context,
                so that its HTTP requests go on too. It needs a timeout of its own; a shutdown waits for
                it within the bound of cleanups.

        Raises:
            TurnClosed: The turn has ended.
        """
        return self._host.spawn(work, outlive)

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Add the tokens of a model call to the sum in `turn.ended`."""
        self._host.add_usage(input_tokens, output_tokens)

    def span(
        self, name: str, attributes: Mapping[str, Attribute], kind: Literal["client", "internal"] = "internal"
    ) -> Span:
        """Begin a span as a child of the current one; end it with `end()`.

        Args:
            name: The name, one of few.
            attributes: Attributes by OpenTelemetry's names, without text of users or models.
            kind: `client` for a request to another server.
        """
        return self._host.span(name, kind, attributes)


Agent = Callable[[Turn], AsyncIterator[Output]]
"""An async generator function, a method, or an instance whose `__call__` is one.

It may have two optional async methods, `startup()` and `shutdown()`, which the server awaits when it
starts and stops.
"""


class NotAnAgent(TypeError):
    """The given object is not an async generator function."""


def check_agent(agent: object) -> None:
    """Raise `NotAnAgent` when `agent` is certainly not an agent."""
    function: Any = agent
    while isinstance(function, partial):
        function = function.func
    if not callable(function):
        raise NotAnAgent(f"expected an async generator function, got {type(agent).__name__}")
    if not inspect.isroutine(function) and not inspect.isclass(function):
        function = type(function).__call__
    function = inspect.unwrap(function)
    if inspect.isclass(function):
        raise NotAnAgent(f"expected an instance, got the class {function.__name__}: call it first")
    if inspect.iscoroutinefunction(function):
        raise NotAnAgent(f"expected an async generator, but {function.__name__}() has no yield")
    if inspect.isgeneratorfunction(function):
        raise NotAnAgent(f"expected an async generator: write `async def {function.__name__}`")
