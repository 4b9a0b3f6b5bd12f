"""Parallel tool calls of one model step, with one result for each."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, cast

from bargein_protocol import CallId, ToolConfirm, ToolDecision, ToolOutput, ToolResult, ToolRunning
from bargein_protocol.types import ToolStatus
from bargein_server.agent import (
    NO_SPAN,
    BadOutput,
    NamedCall,
    NoThreadFree,
    Output,
    Span,
    Turn,
    leaves,
    validated_output,
)

from .parallel import OutputMux
from .tool_arguments import BadArguments, decode_arguments
from .tools import BadCall, Tool, ToolError, finish, is_unfinished, listed

log: logging.Logger = logging.getLogger("bargein.tools")

NOT_ALLOWED = "not allowed by the user"
MAX_NOTE_CHARS = 300


class ToolRunner:
    """Runner of the calls that a model made in one step.

    Args:
        turn: The turn.
        tools: Available tools by name.
        calls: Calls as the model wrote them, with claimed ids.

    Attributes:
        results: One result for each call, in the order of the calls, once `outputs` has ended.
    """

    def __init__(self, turn: Turn, tools: Mapping[str, Tool], calls: Sequence[NamedCall]) -> None:
        self.results: list[ToolResult] = []
        self._turn = turn
        self._tools = tools
        self._calls = calls
        self._mux = OutputMux(turn)

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """Run the calls and yield their events.

        Closing it cancels the tools whose author allows that.
        """
        tasks = [self._mux.start(self._run(call)) for call in self._calls]
        async with aclosing(self._mux.outputs()) as outputs:
            async for output in outputs:
                yield output
        self.results = [task.result() for task in tasks]

    async def _run(self, call: NamedCall) -> ToolResult:
        call_id = CallId(call.call_id)
        try:
            result = await self._result(call_id, call)
        except BadCall as bad:
            result = ToolResult(call_id=call_id, error=str(bad)[:1000], status="failed")
        await self._mux.put(result)
        return result

    async def _result(self, call_id: CallId, call: NamedCall) -> ToolResult:
        tool = self._tools.get(call.name)
        if tool is None:
            raise BadCall(f"there is no tool of this name; there are: {', '.join(self._tools) or 'none'}")
        try:
            given = decode_arguments(call.arguments)
        except BadArguments as error:
            raise BadCall(str(error)) from None
        arguments = tool.check(given)
        running = ToolRunning(call_id=call_id, arguments=given, runs_in=tool.runs_in)
        try:
            validated_output(running)
        except BadOutput as error:
            raise BadCall("the arguments are too large, or nested too deeply") from error
        if tool.confirm and not await self._allowed(call_id, given):
            return ToolResult(call_id=call_id, error=NOT_ALLOWED, status="cancelled")
        note = _note(tool, given)
        if tool.runs_in == "client":
            return await self._run_in_client(tool, running, note)
        task = ToolTask(self._turn, tool, running, tool.bind(arguments, self._turn), self._mux, note)
        return await task.result()

    async def _allowed(self, call_id: CallId, given: dict[str, Any]) -> bool:
        decision = self._turn.tools.expect(call_id, ToolDecision)
        try:
            await self._mux.put(ToolConfirm(call_id=call_id, arguments=given))
            async with asyncio.timeout(self._turn.tools.confirm_s):
                return (await decision).allow
        except TimeoutError:
            return False
        finally:
            decision.cancel()

    async def _run_in_client(self, tool: Tool, running: ToolRunning, note: str | None) -> ToolResult:
        turn, call_id = self._turn, running.call_id
        answer = turn.tools.expect(call_id, ToolOutput)
        started = asyncio.get_running_loop().time()
        span = NO_SPAN
        try:
            await turn.tools.begin(call_id, tool.name, running.arguments, source=turn.source)
            span = _span(turn, tool, call_id)
            self._mux.push(running)
            async with asyncio.timeout(tool.timeout_s):
                answered = await answer
            failed = answered.error is not None
            result = ToolResult(
                call_id=call_id,
                output=answered.output,
                error=answered.error or note,
                status="failed" if failed else "completed",
                duration_ms=_ms_since(started),
            )
            if failed:
                span.fail("tool_error")
        except TimeoutError:
            span.fail("timeout")
            result = _timed_out(tool, call_id)
        finally:
            answer.cancel()
            span.end()
        turn.tools.settle(result)
        return result


class ToolTask:
    """One running tool in a task of its own.

    The result is recorded in the step in which it exists, by the first of these: the task, the timeout,
    or a thread whose task was cancelled. No caller has to wait for that.

    Args:
        turn: The turn.
        tool: The tool.
        running: The event that reports its begin.
        function: The function with its checked arguments.
        mux: Takes the tool's outputs.
        note: Note for the model beside a completed result.
    """

    def __init__(
        self,
        turn: Turn,
        tool: Tool,
        running: ToolRunning,
        function: partial[Any],
        mux: OutputMux,
        note: str | None,
    ) -> None:
        self._turn = turn
        self._tool = tool
        self._running = running
        self._function = function
        self._mux = mux
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._settled: asyncio.Future[ToolResult] = self._loop.create_future()
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thread: asyncio.Future[Any] | None = None
        self._started = 0.0
        self._span: Span = NO_SPAN

    async def result(self) -> ToolResult:
        """Run the tool and return its result.

        Cancelling it cancels the tool if its author allows that.
        """
        tool = self._tool
        task = self._task = self._turn.spawn(self._run(), outlive=tool.on_interrupt == "finish")
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(self._settled)
        except asyncio.CancelledError:
            if tool.on_interrupt == "cancel" and not task.done():
                if not task.cancelling():
                    task.cancel()
                await asyncio.wait({task})  # its cleanup is a part of the agent's
            raise

    async def _run(self) -> Any:
        tool, running = self._tool, self._running
        await self._turn.tools.begin(
            running.call_id,
            tool.name,
            running.arguments,
            source=self._turn.source,
            background=tool.on_interrupt == "finish",
            accept_late=tool.threaded,
        )
        # Nothing is awaited from here to the function's first step: no tool starts after the fence
        # (contract 8).
        self._mux.push(running)
        self._started = self._loop.time()
        self._timer = self._loop.call_later(tool.timeout_s, self._expire)
        self._span = _span(self._turn, tool, running.call_id)
        with self._span.current():
            if tool.threaded:
                self._thread = self._turn.tools.run_in_thread(self._in_thread)
                self._thread.add_done_callback(self._thread_ended)
                value = await asyncio.shield(self._thread)
                if is_unfinished(value):
                    self._settle("completed", await finish(value, self._emit))
            else:
                self._settle("completed", await tool.run(self._function, self._emit))

    async def _emit(self, output: Output) -> None:
        """Queue an output of the tool; a bad one fails the tool, not the turn."""
        plain, _ = validated_output(output)
        await self._mux.put(plain)

    def _in_thread(self) -> Any:
        if self._turn.reason is not None:  # the turn ended while this waited for a free thread
            raise ToolError("the turn ended before it began")
        return listed(self._function())

    def _expire(self) -> None:
        self._span.fail("timeout")
        self._record(_timed_out(self._tool, self._running.call_id))
        if self._thread is not None:  # a call that waits for a thread must not begin any more
            self._thread.cancel()
        if self._task is not None:
            self._task.cancel()

    def _thread_ended(self, thread: asyncio.Future[Any]) -> None:
        self._thread = None  # frames in the traceback of its error hold this object: a cycle
        if thread.cancelled():
            return
        error = thread.exception()
        if error is not None:
            self._fail(error)
        elif not is_unfinished(value := thread.result()):
            self._settle("completed", value)
        elif inspect.iscoroutine(value) and (self._task is None or self._task.done()):
            value.close()  # the turn has ended, and it has not begun

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._task = None  # as that of the thread
        if self._timer is not None:
            self._timer.cancel()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        elif not self._settled.done() and (self._thread is None or self._thread.done()):
            if self._turn.reason is None or self._tool.on_interrupt == "finish":
                self._settle("cancelled")
            else:
                self._span.end()
                self._settled.cancel()

    def _fail(self, error: BaseException) -> None:
        if not self._settled.done():
            self._span.fail(type(error).__name__)
        errors = list(leaves(error))  # a tool may use a task group
        if all(isinstance(one, ToolError) for one in errors):
            self._settle("failed", error="; ".join(map(str, errors))[:4000] or "failed")
        elif isinstance(error, NoThreadFree):
            self._settle("failed", error="no thread was free in time")
        elif not self._settled.done():
            # The author's code: any exception becomes a result, and the turn goes on.
            log.error("tool %s failed", self._tool.name, exc_info=error)
            self._settle("failed", error="the tool failed")

    def _settle(self, status: ToolStatus, output: Any = None, *, error: str | None = None) -> None:
        call_id, duration_ms = self._running.call_id, _ms_since(self._started)
        if status == "completed":
            error = self._note
        # A result that exists is never refused: it is converted, and cut (contract 8).
        result, _ = validated_output(
            ToolResult(call_id=call_id, output=output, error=error, status=status, duration_ms=duration_ms)
        )
        self._record(cast("ToolResult", result))

    def _record(self, result: ToolResult) -> None:
        if not self._settled.done():
            self._span.end()
            self._turn.tools.settle(result)
            self._settled.set_result(result)


def _span(turn: Turn, tool: Tool, call_id: CallId) -> Span:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": tool.name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call_id,
    }
    return turn.span(f"execute_tool {tool.name}", attributes)


def _note(tool: Tool, given: dict[str, Any]) -> str | None:
    """Return a note on arguments that were left out, None without them."""
    unknown = tool.unknown(given)
    return f"ignored unknown arguments: {', '.join(unknown)}"[:MAX_NOTE_CHARS] if unknown else None


def _timed_out(tool: Tool, call_id: CallId) -> ToolResult:
    duration_ms = int(tool.timeout_s * 1000)
    return ToolResult(
        call_id=call_id,
        error=f"no result within {tool.timeout_s:g} s",
        status="failed",
        duration_ms=duration_ms,
    )


def _ms_since(started: float) -> int:
    return max(0, int((asyncio.get_running_loop().time() - started) * 1000)) if started else 0
