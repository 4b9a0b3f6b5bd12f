"""Needs of a turn at its host: the interfaces behind `Turn`'s methods."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from msgspec import Struct

from bargein_protocol import (
    AgentOutput,
    AudioFormat,
    CallId,
    InputText,
    SessionId,
    ToolDecision,
    ToolOutput,
    ToolResult,
    TurnId,
    TurnStatus,
    Usage,
)

from .core.observer import Attribute, Span
from .core.principal import Principal

if TYPE_CHECKING:
    import httpx2

Output = str | AgentOutput
"""Output of an agent."""

T = TypeVar("T")
A = TypeVar("A", ToolOutput, ToolDecision)


class TurnClosed(asyncio.CancelledError):
    """The turn has ended, so the operation is refused.

    It is a `CancelledError`, so that it passes through code which retries or apologises.
    """


class TurnFailed(Exception):
    """Raised by an agent to end its turn as `failed` with a public reason.

    Args:
        reason: One of the protocol's reasons, such as `upstream` or `overload`. Clients see it.
        retryable: Whether the same input may succeed when it is sent again.
        detail: Cause and remedy for the log, in one line, without a credential or the user's text. Without
            it the log has the type of the exception's cause. Neither leaves the server.
    """

    def __init__(
        self, reason: str = "agent_error", *, retryable: bool = False, detail: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retryable = retryable
        self.detail = detail


class ToolLedger(Protocol):
    """Ledger of a turn's tool calls, for authors of custom tool loops.

    Yielded frames report a call to the client; the entries of this ledger decide what history contains,
    even if the frames are purged (contract 8). `agents.tool_loop` is the loop that comes with the server.
    """

    @property
    def confirm_s(self) -> float:
        """Seconds that a call waits for the user's decision."""
        ...

    def claim(self, wanted: str = "") -> CallId:
        """Return an id for a call.

        It is `wanted`, unless another call of the session has that id or it is malformed.
        """
        ...

    async def begin(
        self,
        call_id: CallId,
        name: str,
        arguments: dict[str, Any],
        *,
        source: str = "",
        background: bool = False,
        accept_late: bool = False,
    ) -> None:
        """Record that a tool begins.

        Start the tool in the same step, with no await between. This method waits while the turn is held
        or the client is slow.

        Args:
            call_id: A claimed id.
            name: The tool.
            arguments: The complete arguments.
            source: The lane that the call belongs to.
            background: An interrupt does not stop it: history holds `running` until it settles.
            accept_late: It cannot be stopped: its result counts at any time after the turn's end.

        Raises:
            TurnClosed: The turn has ended: the tool must not begin.
            ValueError: The call has begun before; no call runs twice.
        """
        ...

    def settle(self, result: ToolResult) -> bool:
        """Record the result of a call.

        Call it in the step in which the result exists, after the turn's end too.

        Returns:
            Whether it counts: not when the call was neither begun nor reported by a frame, has a result
            already, or the result is too late.
        """
        ...

    def run_in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a blocking function in one of the session's threads.

        Cancelling the future leaves the function out if no thread was free yet.
        """
        ...

    def expect(self, call_id: CallId, kind: type[A]) -> asyncio.Future[A]:
        """Return a future for the client's `ToolOutput` or `ToolDecision`.

        Call it before the client is asked. Cancelling the future refuses a later answer. The future is
        cancelled when the turn ends.
        """
        ...


class TurnHost(Protocol):
    """Host of a turn, which carries out the methods of `Turn`."""

    @property
    def tools(self) -> ToolLedger:
        """Ledger of its tool calls."""
        ...

    @property
    def reason(self) -> str | None:
        """Reason for the turn's end; None while it runs."""
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
        """Return the HTTP client whose streams end with the turn."""
        ...

    def cut_short(self, reason: str) -> None:
        """Set the reason of the turn if it completes."""
        ...

    @property
    def played_ms(self) -> int | None:
        """Milliseconds of the turn's audio played by report; None without one."""
        ...

    @property
    def sound(self) -> bytes | None:
        """Sound of the input, PCM16 mono at 16 kHz; None without it."""
        ...

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Add to the turn's usage."""
        ...

    def span(self, name: str, kind: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a span of a trace."""
        ...


class EndedTurn(Struct, frozen=True):
    """A turn that has ended, as an application saves it.

    Args:
        turn_id: Its id.
        input: The input that it answered.
        messages: The user's message, tool calls with their results, and the part of the answer that was
            heard, in the shape of chat completions.
        status: `completed`, `interrupted` or `failed`.
        reason: The reason of its end.
        heard: The text that was heard.
        usage: Tokens of its model calls.
    """

    turn_id: TurnId
    input: InputText
    messages: list[dict[str, Any]]
    status: TurnStatus
    reason: str
    heard: str
    usage: Usage | None = None


class HistorySource(Protocol):
    """An application's own history of conversations; see `create_app`."""

    async def load(self, session: SessionContext) -> Sequence[dict[str, Any]]:
        """Return the messages before a session, in the shape of chat completions.

        It is awaited in the first turn of a session, before its agent. An interrupt cancels it, its time
        counts as time without output, and its error fails the turn.
        """
        ...

    async def save(self, session: SessionContext, turn: EndedTurn) -> None:
        """Save a turn that has ended.

        It is called once for each turn whose agent ran, in their order, after the cleanup. An error is
        logged.
        """
        ...


class SessionContext(Protocol):
    """Session of a turn, for its agent."""

    @property
    def id(self) -> SessionId:
        """Public id of the session."""
        ...

    @property
    def audio(self) -> AudioFormat | None:
        """Format of the audio that the client takes; None when it takes none."""
        ...

    @property
    def metadata(self) -> dict[str, Any]:
        """Application parameters, merged from `session.update` events."""
        ...

    @property
    def principal(self) -> Principal | None:
        """Authenticated client; None without authentication.

        Its claims are those of the newest connection; a restored session has none until its client resumes.
        """
        ...

    @property
    def state(self) -> dict[str, Any]:
        """Free for the agent's author; lives as long as the session."""
        ...

    @property
    def store(self) -> MutableMapping[str, Any]:
        """Small values of the author's own that a store keeps with the session.

        JSON values by name, at most 128 of 64 KiB together. Reading returns a copy: assign a changed value
        again. Without a store they live as long as the session.
        """
        ...
