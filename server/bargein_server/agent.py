"""Interface between the server and agents.

An agent is an async generator function of one argument, the `Turn`. Its outputs go to the client: a `str`
is a piece of the answer; the structs of `bargein_protocol` are the other kinds. When the turn is
interrupted, the generator is cancelled where it stands: a `CancelledError` is raised there, `finally`
blocks run and may await for a bounded time, and later outputs are discarded.

    async def agent(turn: Turn):
        yield turn.status("Thinking…")
        async for word in my_model(turn.history.messages()):
            yield word
"""

from __future__ import annotations

import asyncio
import dis
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from msgspec.structs import replace

from bargein_protocol import (
    Attachment,
    AudioFormat,
    Data,
    InputText,
    Progress,
    Status,
    TextDelta,
    Thought,
    TurnId,
)
from bargein_protocol.media_types import IMAGES as IMAGES
from bargein_protocol.media_types import BadMediaType, media_types

from .core.agent_generators import NotAnAgent as NotAnAgent  # re-exported: agents import only this module
from .core.agent_generators import as_generator as as_generator
from .core.author_code import BadOutput as BadOutput
from .core.author_code import Contained as Contained
from .core.author_code import NoThreadFree as NoThreadFree
from .core.author_code import leaves as leaves
from .core.author_code import validated_output as validated_output
from .core.history import ABOUT_IMAGE_TOKENS as ABOUT_IMAGE_TOKENS
from .core.history import History as History
from .core.history import Message as Message
from .core.history import NamedCall as NamedCall
from .core.history import calls_message as calls_message
from .core.history import result_message as result_message
from .core.observer import NO_SPAN as NO_SPAN
from .core.observer import Attribute as Attribute
from .core.observer import Span as Span
from .core.plain_values import plain_text as plain_text
from .core.plain_values import plain_value as plain_value
from .core.plain_values import text_of as text_of
from .core.principal import Principal as Principal
from .turn_host import EndedTurn as EndedTurn
from .turn_host import HistorySource as HistorySource
from .turn_host import Output as Output
from .turn_host import SessionContext as SessionContext
from .turn_host import ToolLedger as ToolLedger
from .turn_host import TurnClosed as TurnClosed
from .turn_host import TurnFailed as TurnFailed
from .turn_host import TurnHost as TurnHost

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")


class Turn:
    """One turn: its input, the history, and the operations of its agent.

    Attributes:
        id: The turn's id.
        input: The input that it answers, with its metadata.
        history: The conversation so far, see `History.messages`.
        session: The session that it belongs to.
        source: Lane of the outputs, when several agents share the turn; empty for the main lane.
    """

    __slots__ = ("_host", "history", "id", "input", "session", "source")

    def __init__(
        self, turn_id: TurnId, asked_by: InputText, history: History, session: SessionContext, host: TurnHost
    ) -> None:
        self.id: TurnId = turn_id
        self.input: InputText = asked_by
        self.history: History = history
        self.session: SessionContext = session
        self.source: str = ""
        self._host = host

    @property
    def reason(self) -> str | None:
        """Reason for the turn's end; None while it runs.

        It is set before the cancel arrives, so that a `finally` block can read it.
        """
        return self._host.reason

    @property
    def tools(self) -> ToolLedger:
        """Ledger of the turn's tool calls."""
        return self._host.tools

    def in_lane(self, source: str) -> Turn:
        """Return the same turn for an agent in a lane of its own."""
        turn = Turn(self.id, self.input, self.history, self.session, self._host)
        turn.source = source
        return turn

    def labelled(self, output: Output) -> Output:
        """Return output with this agent's `source`, unless it has one."""
        if not self.source or output is None:
            return output
        if isinstance(output, str):
            return TextDelta(text=output, source=self.source)
        return output if output.source else replace(output, source=self.source)

    @property
    def text(self) -> str:
        """Text of the input."""
        return self.input.text

    @property
    def attachments(self) -> Sequence[Attachment]:
        """Files of the input, for an agent that has `takes_attachments`."""
        return self.input.attachments or ()

    @property
    def principal(self) -> Principal | None:
        """Authenticated user; None without authentication.

        It is the user's id, a text, with the `claims` of the authenticator.
        """
        return self.session.principal

    @property
    def audio(self) -> AudioFormat | None:
        """Format of `AudioDelta` for the client; None when it takes no audio.

        Make no sound then: an `AudioDelta` is dropped.
        """
        return self.session.audio

    @property
    def played_ms(self) -> int | None:
        """Audio of the turn that the client reported as played, in milliseconds.

        None before its first report; clients report about ten times a second while they play.
        """
        return self._host.played_ms

    @property
    def sound(self) -> bytes | None:
        """Sound of the user's words, PCM16 mono at 16 kHz; None for typed input.

        Only agents with an attribute `hears` that is True get it. Read it before the next input is spoken.
        """
        return self._host.sound

    def status(self, message: str, icon: str | None = None) -> Status:
        """Return a status to yield: the agent's activity, in a few words."""
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
        """Return an application event to yield; `value` is any JSON value."""
        return Data(name=name, value=value)

    async def emit(self, output: Output) -> None:
        """Send output from a callback or a child task.

        It has the effect of a `yield`. It waits while the turn is held or the client is slow. Cancelling
        it is safe: either the whole output was taken, or nothing was.

        Raises:
            TurnClosed: The turn has ended.
            RuntimeError: It is called from another thread; use `streams.from_callbacks` there.
        """
        await self._host.emit(self.labelled(output))

    def uninterruptible(self) -> AbstractAsyncContextManager[None]:
        """Return a section that an interrupt does not cut.

            async with turn.uninterruptible():
                yield "This call may be recorded."

        Output from inside is not purged. An interrupt that arrives meanwhile is answered `deferred` and
        takes effect when the section is over and its output is written (contract 9). A forced interrupt
        and the end of the session do not wait. Entering raises `TurnClosed` when the turn has ended.
        """
        return self._host.section()

    def http_client(self) -> httpx2.AsyncClient:
        """Return the HTTP client for calls to models.

        Pass it to `AsyncOpenAI(http_client=…)`. It belongs to the server, so do not close it. Every
        request through it in this turn is ended when the turn ends, wherever the agent stands (contract 6).
        Later requests raise `TurnClosed`. At module level use `bargein_server.http_client()`.

        Raises:
            RuntimeError: `httpx2` is not installed.
        """
        return self._host.http_client()

    def spawn(self, work: Coroutine[Any, Any, T], *, outlive: bool = False) -> asyncio.Task[T]:
        """Run a coroutine in a task that is cancelled in the step of the fence.

        Await the task, or end it, before the generator returns: tasks that are left then are cancelled.

        Args:
            work: The coroutine; it is closed if the turn has ended already.
            outlive: Let it continue after the turn's end, uncancelled and outside the turn's context, so
                that its HTTP requests continue too. It must have a timeout of its own; a shutdown waits
                for it within the cleanup's bound.

        Raises:
            TurnClosed: The turn has ended.
        """
        return self._host.spawn(work, outlive)

    def cut_short(self, reason: str) -> None:
        """Report an answer that the model ended early; the turn completes.

        `turn.ended` then has this reason in place of `completed`, and history marks the answer. None of it
        counts when the turn is interrupted or fails. The last call wins.

        Args:
            reason: `length`, `content_filter` or `refusal`.

        Raises:
            ValueError: `reason` is another one.
        """
        self._host.cut_short(reason)

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Add the tokens of a model call; `turn.ended` reports the sum."""
        self._host.add_usage(input_tokens, output_tokens)

    def span(
        self, name: str, attributes: Mapping[str, Attribute], kind: Literal["client", "internal"] = "internal"
    ) -> Span:
        """Begin a span of a trace, as a child of the current one.

        End it with `end()`.

        Args:
            name: Name of the operation, from a small set of names.
            attributes: Attributes by OpenTelemetry's names, without content of users or models.
            kind: `client` for a request to another server.
        """
        return self._host.span(name, kind, attributes)


Agent = Callable[[Turn], AsyncIterator[Output]]
"""An async generator function, a method, or an instance whose `__call__` is one.

Any function that returns an async iterator is an agent as well, and so is a coroutine function that returns
one. An agent with an attribute `hears` that is True gets the sound of what users say as `turn.sound`, and
speaks itself.

An agent may have async methods `startup()` and `shutdown()`, which the server awaits.

Inputs with files are refused, unless the agent has an attribute `takes_attachments`: the media types that it
takes, such as `("image/png", "application/pdf")` or `("image/*",)`, or True for all files.
"""


class AgentNotStarted(RuntimeError):
    """The agent cannot start; the message has the cause and the remedy.

    Raised by `startup()`, it ends the server with its message in one line, without a traceback.
    """


def check_agent(agent: object) -> None:
    """Raise `NotAnAgent` if `agent` is certainly not one.

    Only its call shows whether it returns an async iterator, so a function that may return one passes.
    """
    attachments_taken(agent)
    function = _without_partial(agent)
    if not callable(function):
        raise NotAnAgent(f"expected an async generator function, got {type(agent).__name__}")
    if inspect.isclass(function):
        if hasattr(function, "__aiter__") or hasattr(function, "__anext__"):
            return
        raise NotAnAgent(f"expected an instance, got the class {function.__name__}: call it first")
    if not inspect.isroutine(function):
        function = type(function).__call__
    if inspect.iscoroutinefunction(function) and _returns_constants(function):
        raise NotAnAgent(f"expected an async generator, but {function.__name__}() has no yield")
    if inspect.isgeneratorfunction(function):
        raise NotAnAgent(f"expected an async generator: write `async def {function.__name__}`")


def hears(agent: object) -> bool:
    """Return whether an agent takes the sound of the user's words."""
    return bool(getattr(_without_partial(agent), "hears", False))


def attachments_taken(agent: object) -> tuple[str, ...]:
    """Return the media types of the files that an agent takes.

    Raises:
        NotAnAgent: Its `takes_attachments` is no list of media types.
    """
    try:
        return media_types(getattr(_without_partial(agent), "takes_attachments", None))
    except BadMediaType as error:
        raise NotAnAgent(str(error)) from None


def _without_partial(agent: object) -> Any:
    while isinstance(agent, partial):
        agent = agent.func
    return agent


def _returns_constants(function: Any) -> bool:
    """Return whether each `return` of a function has a constant or no value."""
    before = ""
    for instruction in dis.get_instructions(function):
        if instruction.opname == "RETURN_VALUE" and not before.startswith("LOAD_CONST"):
            return False
        before = instruction.opname
    return True
