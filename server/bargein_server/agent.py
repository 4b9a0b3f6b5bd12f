"""What an agent is, and what it is given.

An agent is an async generator function of one argument, the `Turn`. Whatever it yields goes to the
client: a `str` is a piece of the answer, the structs of `bargein_protocol` are the rest. When the
turn is interrupted the generator is cancelled where it stands: a `CancelledError` is raised there,
`finally` blocks run and may await for a bounded time, and nothing that it yields or emits from then
on reaches anybody.

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

# The parts of the core that a tool loop needs are had from here, so that agents know only this module.
from .core.validation import BadOutput as BadOutput
from .core.validation import validated_output as validated_output

if TYPE_CHECKING:
    import httpx2

Output = str | AgentOutput
"""What an agent yields."""

T = TypeVar("T")
A = TypeVar("A", ToolOutput, ToolDecision)


class TurnClosed(asyncio.CancelledError):
    """The turn has ended: what was asked for cannot be done any more.

    It is a `CancelledError`, so that it passes through code which retries or apologises.
    """


class TurnFailed(Exception):
    """Raised by an agent to end its turn as `failed` with a reason that clients may see.

    Args:
        reason: One of the protocol's reasons, such as `upstream` or `overload`.
        retryable: Whether the same input may succeed when it is sent again.

    The exception's cause is logged and stays on the server.
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
    """What runs a turn; the other side of `Turn`."""

    @property
    def calls(self) -> Calls:
        """The books of its tool calls."""
        ...

    def spawn(self, work: Coroutine[Any, Any, T], outlive: bool) -> asyncio.Task[T]:
        """Run a coroutine beside the agent."""
        ...

    async def emit(self, output: Output) -> None:
        """Send output as if the agent had yielded it."""
        ...

    def section(self) -> AbstractAsyncContextManager[None]:
        """Return an uninterruptible section."""
        ...

    def http_client(self) -> httpx2.AsyncClient:
        """Return the client whose streams end with the turn."""
        ...

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Add to the turn's usage."""
        ...

    def span(self, name: str, kind: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a piece of work that a trace shows."""
        ...


class SessionContext(Protocol):
    """The session of a turn, as an agent sees it."""

    @property
    def id(self) -> SessionId:
        """The public id."""
        ...

    @property
    def metadata(self) -> dict[str, Any]:
        """What clients sent with `session.update`, merged."""
        ...

    @property
    def principal(self) -> str | None:
        """Who the client is; None without authentication."""
        ...

    @property
    def state(self) -> dict[str, Any]:
        """The author's own, for as long as the session lives."""
        ...


class Turn:
    """One turn, as its agent sees it.

    Attributes:
        id: The turn's id.
        input: What asked for it, with its metadata.
        history: The conversation so far, see `History.messages`.
        session: The session that it belongs to.
        source: Which of several agents this is for; empty for the turn's own voice.
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
        self._main: Turn | None = None  # of which this one is a voice; not itself, that were a cycle
        self._host = host

    @property
    def reason(self) -> str | None:
        """Why the turn is being ended; None while it runs.

        Set before the cancel arrives, so that a `finally` block can ask.
        """
        return (self._main or self)._reason

    @reason.setter
    def reason(self, reason: str) -> None:
        (self._main or self)._reason = reason

    @property
    def calls(self) -> Calls:
        """The books of the turn's tool calls."""
        return self._host.calls

    def speaking_as(self, source: str) -> Turn:
        """Return the same turn for one of several agents: what it emits is told with its `source`."""
        turn = Turn(self.id, self.input, self.history, self.session, self._host)
        turn.source = source
        turn._main = self._main or self
        return turn

    def voiced(self, output: Output) -> Output:
        """Return output with this agent's `source`, unless it has one."""
        if not self.source or output is None:
            return output
        if isinstance(output, str):
            return TextDelta(text=output, source=self.source)
        return output if output.source else replace(output, source=self.source)

    @property
    def text(self) -> str:
        """What the user said."""
        return self.input.text

    @property
    def principal(self) -> str | None:
        """Who speaks; None without authentication."""
        return self.session.principal

    def status(self, message: str, icon: str | None = None) -> Status:
        """Return a status to yield: what the agent is doing, in a few words."""
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
        """Return an event of the application's own to yield; `value` is anything JSON can hold."""
        return Data(name=name, value=value)

    async def emit(self, output: Output) -> None:
        """Send output from a callback or a child task, as if the agent had yielded it.

        It waits while the turn is held or the client is slow. Cancelling it is safe: either the
        output was taken, or nothing was.

        Raises:
            TurnClosed: The turn has ended.
        """
        await self._host.emit(self.voiced(output))

    def uninterruptible(self) -> AbstractAsyncContextManager[None]:
        """Return a section that an interrupt does not cut: `async with turn.uninterruptible(): …`.

        What is yielded or emitted inside is spared; an interrupt that comes meanwhile is answered
        `deferred` and takes effect when the section is over and its output written. A forced
        interrupt and the end of the session do not wait. Entering raises `TurnClosed` when the turn
        has ended.
        """
        return self._host.section()

    def http_client(self) -> httpx2.AsyncClient:
        """Return the HTTP client for calls to models: give it to `AsyncOpenAI(http_client=…)`.

        It belongs to the server, do not close it. Every response stream that is opened through it
        in this turn is closed when the turn ends, wherever the agent stands; requests made after
        that raise `TurnClosed`.

        Raises:
            RuntimeError: `httpx2` is not installed.
        """
        return self._host.http_client()

    def spawn(self, work: Coroutine[Any, Any, T], *, outlive: bool = False) -> asyncio.Task[T]:
        """Run a coroutine beside the agent, in a task that is cancelled in the step of the fence.

        Await the task, or end it, before the generator returns: what is left then is cancelled too.

        Args:
            work: The coroutine; it is closed when the turn has ended already.
            outlive: Let it go on after the turn's end, uncancelled and outside the turn's context, so
                that its HTTP requests go on too. It must have a time-out of its own; a shutdown waits
                for it within the cleanup's bound.

        Raises:
            TurnClosed: The turn has ended.
        """
        return self._host.spawn(work, outlive)

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Add the tokens of a model call; `turn.ended` tells the sum."""
        self._host.add_usage(input_tokens, output_tokens)

    def span(
        self, name: str, attributes: Mapping[str, Attribute], kind: Literal["client", "internal"] = "internal"
    ) -> Span:
        """Begin a piece of work that a trace shows, as a child of the current span; end it with `end()`.

        Args:
            name: What it is, in few different words.
            attributes: By OpenTelemetry's names, without anything that users or models said.
            kind: `client` for a request to another server.
        """
        return self._host.span(name, kind, attributes)


Agent = Callable[[Turn], AsyncIterator[Output]]
"""An async generator function, a method, or an instance whose `__call__` is one.

It may have two optional async methods, `startup()` and `shutdown()`, which the server awaits when it
starts and stops.
"""


class NotAnAgent(TypeError):
    """What was given is not an async generator function; the message says what it is."""


def check_agent(agent: object) -> None:
    """Raise `NotAnAgent` when it is certain that `agent` is none."""
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
