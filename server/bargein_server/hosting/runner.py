"""Runner of one turn: the task that owns the agent's generator.

Four facts of asyncio determine its form. A task that is cancelled before its first step never enters its
body, so the end of the cleanup is reported only by the task's done-callback. A cancel that arrives while
the generator stands at a `yield` (because of a hold, a slow client or a time slice) would not reach the
generator, so it is thrown into it: an agent's own `asyncio.timeout()` around
a `yield` works, and a `finally` runs where the agent stands. An agent may swallow a cancel, so the
fence, not the task, decides which output is sent. Finally, `wait_for` and `timeout()` hang when the task
does not end, so two timers bound the cleanup instead (contract 5).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import Context, copy_context
from time import perf_counter
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any, TypeVar

from bargein_protocol import ToolResult, TurnId, Usage

from ..agent import Output, Turn, TurnClosed, as_generator
from ..core.author_code import Contained
from ..core.observer import Attribute, Span
from ..core.turn_record import COMPLETED, CUT_SHORT
from .endings import AGENT_ERROR, ending_after
from .ports import RunnerHost
from .stray_tasks import watch_stray_tasks
from .threads import check_loop
from .tool_ledger import TurnToolLedger
from .upstream import TURN_STREAMS, TurnStreams

if TYPE_CHECKING:
    import httpx2


log = logging.getLogger("bargein.turn")

T = TypeVar("T")


def _is_cancelled() -> bool:
    """Return whether a cancel of the current task was requested.

    `_run` has no variable for the task, because it would be part of a cycle (`Runner._done`).
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Runner:
    """Runner of one turn.

    Attributes:
        turn: Argument of the agent; deleted when its task has ended.
        task: The task; None before `start` and when it has ended.
        stopped: Whether the fence was closed.
        reason: Reason for the turn's end; None while it runs.
    """

    def __init__(self, host: RunnerHost, turn_id: TurnId) -> None:
        core = host.core
        self.task: asyncio.Task[None] | None = None
        self.stopped = False
        self.reason: str | None = None
        self.turn = Turn(turn_id, core.turn(turn_id).input, core.history(turn_id), host.view, self)
        self._tools: TurnToolLedger | None = None  # most turns have no tool calls
        self._id = turn_id
        self._host = host
        settings = host.settings
        self._streams = TurnStreams(
            settings.model_first_byte_s, settings.model_silence_s, all_clients=settings.close_model_calls
        )
        self._children: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._finished = False
        self._reported = False
        self._has_output = False
        self._completed = COMPLETED
        self._emitting_since, self._emit_round = 0.0, -1.0

    @property
    def tools(self) -> TurnToolLedger:
        """Ledger of the turn's tool calls."""
        check_loop(self._host.loop, "turn.tools")
        if self._tools is None:
            self._tools = TurnToolLedger(self._host, self._id)
            if self.stopped:
                self._tools.stop()
        return self._tools

    @property
    def model_works_until(self) -> float:
        """Time until which an open model call counts as at work; 0 without one."""
        return self._streams.works_until

    def start(self, context: Context) -> None:
        """Create the task in a copy of the server's context, free of other turns."""
        context.run(TURN_STREAMS.set, self._streams)
        self._host.telemetry.turn_started(self._id, context)
        self.task = self._host.loop.create_task(self._run(), context=context, name=f"turn {self._id}")
        self.task.add_done_callback(self._done)

    def stop(self, reason: str) -> None:
        """Cancel the agent and close its model calls, in the step of the fence.

        The cancel comes first. A reader whose stream is closed before would get an error, which it may
        answer with an apology or a retry, instead of a cancel.
        """
        assert self.task is not None
        self.stopped = True
        self.reason = reason
        self.task.cancel(reason)
        for child in list(self._children):
            child.cancel(reason)
        if self._tools is not None:
            self._tools.stop()
        self._streams.close()
        self._timer = self._host.loop.call_later(self._host.settings.cleanup_grace_s, self._cancel_again)

    def _cancel_again(self) -> None:
        assert self.task is not None
        self.task.cancel(self.reason)
        self._timer = self._host.loop.call_later(self._host.settings.cleanup_kill_s, self._abandon)

    def _abandon(self) -> None:
        assert self.task is not None
        log.warning("turn %s does not end after two cancels and is abandoned", self._id)
        self._host.telemetry.turn_abandoned(self._id)
        self._host.abandon(self.task)
        self._drop_children()
        self._report()

    def _done(self, task: asyncio.Task[None]) -> None:
        # Both refer back to this object, the task through the traceback of its cancel. The whole session
        # would stay in such a cycle until the garbage collector runs.
        self.task = None
        del self.turn
        if self._timer is not None:
            self._timer.cancel()
        self._streams.close()  # a stream left open by a `break` would keep its connection
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("turn %s failed", self._id, exc_info=error)
        if not (self.stopped or self._finished):
            self._host.act(self._host.core.finish, self._id, AGENT_ERROR)
        self._drop_children()
        if self._streams.tasks:
            watch_stray_tasks(self._streams.tasks, self._id, self._host.loop)
        self._report()

    def _cancelled(self) -> bool:
        return self.stopped or _is_cancelled()

    def _drop_children(self) -> None:
        """Cancel and abandon the child tasks that are still running."""
        for child in list(self._children):
            child.cancel()
            self._host.abandon(child)

    def _report(self) -> None:
        if not self._reported:
            self._reported = True
            self._host.runner_ended(self._id)

    # --- the task --------------------------------------------------------------------------------

    async def _run(self) -> None:
        # The loop is in one coroutine: another level would cost time for every token.
        try:
            generator = await self._generator()
            try:
                host, time_slicer, turn_id = self._host, self._host.time_slicer, self._id
                clock = time_slicer.clock
                started, seen = perf_counter(), clock()
                step: Any = generator.__anext__()
                while True:
                    try:
                        output = await step
                    except StopAsyncIteration:
                        break
                    now = perf_counter()
                    goes_on = host.send_output(turn_id, output, now)
                    if goes_on is None:
                        break  # the agent swallowed the cancel: the fence is closed, aclose() comes next
                    if not self._has_output:
                        self._note_output(output)
                    try:
                        if not goes_on:
                            await host.pullable()
                            host.core.pulled(turn_id, host.loop.time())
                        elif now - started > time_slicer.slice_s:
                            if clock() == seen:
                                await time_slicer.yield_to_loop()
                                now = perf_counter()
                            started, seen = now, clock()
                    except asyncio.CancelledError as error:
                        step = generator.athrow(error)
                    else:
                        step = generator.__anext__()
            finally:
                await generator.aclose()
        except BaseException as error:
            failed = ending_after(error, self._id, self._cancelled)
            error.__traceback__ = None  # its frames hold it, as this one and those of task groups: a cycle
            if failed is None:
                if isinstance(error, BaseExceptionGroup):  # of cancels alone
                    raise asyncio.CancelledError(self.reason) from None
                raise
            ending = failed
        else:
            ending = self._completed
        self._finished = True
        self._host.act(self._host.core.finish, self._id, ending)

    async def _generator(self) -> AsyncGenerator[Output, None]:
        """Call the agent, once the conversation is known."""
        history = self._host.history
        if history is not None and not history.loaded:
            await history.load()
            self.turn.history = self._host.core.history(self._id)
        generator = self._host.agent(self.turn)
        return generator if type(generator) is AsyncGeneratorType else await as_generator(generator)

    # --- requests of the agent (TurnHost) --------------------------------------------------------

    async def emit(self, output: Output) -> None:
        """Send output in the same way as a yielded one."""
        check_loop(self._host.loop, "turn.emit()")
        if self._host.full and isinstance(output, ToolResult) and output.status != "running":
            self.tools.settle(output)  # it exists, although its frame waits (contract 8)
        await self._pause_emits()
        while self._host.full and not self.stopped:
            await self._host.pullable()
        if self.stopped or self._host.send_output(self._id, output, perf_counter()) is None:
            raise TurnClosed("the turn has ended")
        if not self._has_output:
            self._note_output(output)

    async def _pause_emits(self) -> None:
        """Let the event loop run when the emits' time slice is over (contract 12)."""
        slicer, now = self._host.time_slicer, perf_counter()
        if now - self._emitting_since > slicer.slice_s:
            if slicer.clock() == self._emit_round:
                await slicer.yield_to_loop()
                now = perf_counter()
            self._emitting_since, self._emit_round = now, slicer.clock()

    def _note_output(self, output: Output | None) -> None:
        if output:  # deltas of chat completions may be empty
            self._has_output = True
            self._host.telemetry.turn_output(self._id)

    def section(self) -> AbstractAsyncContextManager[None]:
        """Return an uninterruptible section."""
        return self._section()

    @asynccontextmanager
    async def _section(self) -> AsyncIterator[None]:
        check_loop(self._host.loop, "turn.uninterruptible()")
        if not self._host.core.enter_section(self._id):
            raise TurnClosed("the turn has ended")
        try:
            yield
        finally:
            self._host.act(self._host.core.leave_section, self._id)

    def spawn(self, work: Coroutine[Any, Any, T], outlive: bool) -> asyncio.Task[T]:
        """Run a coroutine beside the agent."""
        try:
            check_loop(self._host.loop, "turn.spawn()")
        except RuntimeError:
            work.close()
            raise
        if self.stopped or self._finished:
            work.close()
            raise TurnClosed("the turn has ended")
        context = copy_context()
        if outlive:
            context.run(TURN_STREAMS.set, None)
        task = self._host.loop.create_task(Contained(work), context=context, name=f"beside turn {self._id}")
        task.add_done_callback(_forget_cancel)
        if outlive:
            self._host.keep(task)
        else:
            self._children.add(task)
            task.add_done_callback(self._children.discard)
        return task

    def http_client(self) -> httpx2.AsyncClient:
        """Return the client whose streams end with the turn."""
        check_loop(self._host.loop, "turn.http_client()")
        return self._host.http_client()

    def cut_short(self, reason: str) -> None:
        """Set the reason of the turn if it completes."""
        check_loop(self._host.loop, "turn.cut_short()")
        if reason not in CUT_SHORT:
            raise ValueError(f"expected one of {', '.join(CUT_SHORT)}, got {reason!r}")
        self._completed = CUT_SHORT[reason]

    @property
    def played_ms(self) -> int | None:
        """Audio that the client reported as played, in milliseconds."""
        turn = self._host.core.turn(self._id)
        return turn.heard_position.reports(turn.fold.main_lane)[1]

    @property
    def sound(self) -> bytes | None:
        """Sound of the input."""
        ear = self._host.ear
        return None if ear is None else ear.sound_of(self._host.core.turn(self._id).input.id)

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Add to the turn's usage."""
        check_loop(self._host.loop, "turn.add_usage()")
        self._host.core.add_usage(self._id, Usage(input_tokens=input_tokens, output_tokens=output_tokens))

    def span(self, name: str, kind: str, attributes: Mapping[str, Attribute]) -> Span:
        """Begin a span of the turn's trace."""
        return self._host.telemetry.span(name, kind, attributes)


def _forget_cancel(task: asyncio.Future[Any]) -> None:
    """Drop a cancelled task's error: frames in its traceback hold the task."""
    if task.cancelled():
        with suppress(asyncio.CancelledError):
            task.exception()
