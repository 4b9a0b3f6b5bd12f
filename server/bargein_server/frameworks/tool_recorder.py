"""Recorder of the tool calls of one turn, for agents of other frameworks.

A framework streams a call while the model writes it, runs the tool somewhere in its own tasks, and reports
the result later. The recorder sits at both ends. The adapter reports to it what the model writes, in the
order of the stream. The framework's own hook around a tool runs it through `run` or `run_in_thread`, so the
begin and the result enter the turn's ledger in the step in which they happen (contract 8), whether or not
their frames are ever sent. The hook finds the recorder in a context variable, so an agent that was made
once, at module level, serves every turn.

Calls that the model of this turn did not write, such as those of an agent that runs inside a tool, are part
of the outer call's work. They are not recorded, but they do not begin after the fence either.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar, cast

from bargein_protocol import (
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolOutput,
    ToolResult,
    ToolStatus,
)
from bargein_protocol.types import RunsIn
from bargein_server.agent import Contained, Output, Turn, TurnClosed

from ..agents.model_fields import slices
from .failed_models import failure_of_model
from .tool_calling import call_tool, gated
from .written_call import (
    CallName,
    FinalTool,
    Question,
    WrittenCall,
    completed_result,
    failed_result,
    running_event,
    sendable,
)

T = TypeVar("T")

NOT_ALLOWED = "not allowed by the user"
NO_ANSWER = "the client did not answer in time"
FAILED = "the tool failed"


class ToolRecorder:
    """Tool calls of one turn; see the module.

    Args:
        turn: The turn.
        final_tool: The tool whose call is the answer.
        pauses: Exceptions by which the framework suspends a tool and runs it again later.

    Attributes:
        answered: Whether the final tool has produced text.
        paused: Exceptions that suspended tools, by the framework's ids of the calls.
    """

    def __init__(
        self,
        turn: Turn,
        final_tool: FinalTool | None = None,
        pauses: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.turn = turn
        self.answered: bool = False
        self.paused: dict[str, BaseException] = {}
        self._final = final_tool
        self._pauses = pauses
        self._calls: dict[str, WrittenCall] = {}
        self._streams: dict[Hashable, WrittenCall] = {}
        self._written: dict[str, asyncio.Event] = {}
        self._naming: CallName | None = None

    # --- the model's stream ----------------------------------------------------------------------

    def add_name(self, stream: Hashable, given_id: str | None, piece: str) -> Iterator[Output]:
        """Add to a call's name; yield the announcement of the call before.

        The name is complete when arguments, another call or a result come, or with `end_name`.

        Args:
            stream: Key of the call's later pieces.
            given_id: The framework's id; None if the first piece had it.
            piece: The tool's name, or a piece of it.
        """
        held, known = self._naming, self._streams.get(stream)
        if held is not None and held.stream == stream and given_id in (None, held.given_id):
            self._naming = held._replace(name=held.name + str(piece))
        elif known is None or given_id not in (None, known.given_id):
            yield from self.end_name()
            self._naming = CallName(stream, given_id, str(piece))

    def end_name(self) -> Iterator[Output]:
        """Yield the announcement of the call whose name came last, if any."""
        held, self._naming = self._naming, None
        if held is not None:
            yield from self._announce(*held)

    def _announce(self, stream: Hashable, given_id: str | None, name: str) -> Iterator[Output]:
        known = self._calls.get(given_id) if given_id else None
        if known is not None:
            self._streams[stream] = known
            return
        call_id = self.turn.tools.claim(str(given_id or ""))
        call = WrittenCall(str(given_id or call_id), call_id, name, self._final)
        self._calls[call.given_id] = self._streams[stream] = call
        if call.answer is None:
            yield ToolCall(call_id=call_id, name=call.name)

    def add_arguments(self, stream: Hashable, piece: str) -> Iterator[Output]:
        """Yield the output for a piece of arguments: a delta, or answer text."""
        if not piece:
            return
        yield from self.end_name()
        call = self._streams.get(stream)
        if call is None or call.written:
            return
        piece = str(piece)
        call.pieces.append(piece)
        if call.answer is None:
            for part in slices(piece):
                yield ToolCallDelta(call_id=call.call_id, arguments=part)
            return
        text = call.answer.feed(piece)
        if text:
            self.answered = call.answered = True
            yield text

    def add_call(
        self, given_id: str | None, name: str, arguments: str | Mapping[str, Any]
    ) -> Iterator[Output]:
        """Yield the outputs for a whole call, unless it was streamed before."""
        if given_id and given_id in self._calls:
            self.end_arguments(given_id)
            return
        if given_id and self._naming is not None and self._naming.given_id == given_id:
            self._naming = None  # this is the whole of it
        stream = object()
        yield from self.add_name(stream, given_id, name)
        yield from self.end_name()
        text = arguments if isinstance(arguments, str) else json.dumps(sendable(dict(arguments)))
        yield from self.add_arguments(stream, text)
        self._note_written(self._streams[stream])

    def end_arguments(self, given_id: str) -> None:
        """Record that the arguments of a call are complete."""
        if (call := self._calls.get(given_id)) is not None:
            self._note_written(call)

    def _note_written(self, call: WrittenCall) -> None:
        call.written = True
        self._written.setdefault(call.given_id, asyncio.Event()).set()

    async def written(self, given_id: str) -> None:
        """Wait until a whole call was reported to this recorder.

        For frameworks that run ahead of their stream: the begin of a tool would overtake its call.
        """
        await self._written.setdefault(given_id, asyncio.Event()).wait()

    def find(self, name: str, arguments: Mapping[str, Any]) -> str | None:
        """Return the id of a call that has not begun, by its content."""
        for call in self._calls.values():
            waits = not (call.begun or call.asked or call.over)
            if waits and call.name == name and call.arguments == arguments:
                return call.given_id
        return None

    # --- the tool --------------------------------------------------------------------------------

    async def run(
        self,
        given_id: str | None,
        arguments: Mapping[str, Any] | None,
        work: Callable[[], Awaitable[T]],
        result_of: Callable[[T], Any],
        *,
        late: bool = False,
    ) -> T:
        """Run an asynchronous tool, and record its begin and its result.

        A call whose tool has returned does not run again, as LangGraph wants it to when a node continues
        after a pause: what it returned is returned again. No other code runs between the last test of the
        fence and the first step of `work`.

        Args:
            given_id: The framework's id.
            arguments: The arguments; those that the model wrote if None.
            work: Calls the tool.
            result_of: Returns the result for the model, from what `work` returned.
            late: A part of it may run in a thread, whose result `settle_late` records after a cancel.

        Raises:
            TurnClosed: The turn has ended: the tool does not begin.
        """
        call = self._recorded(given_id)
        if call is not None and call.has_returned:
            return cast(T, call.returned)
        await self._begin(call, arguments, late)
        try:
            result = await Contained(call_tool(self.turn, work))
        except Exception as error:
            self._note_failure(call, error)
            raise
        if call is not None:
            call.has_returned, call.returned = True, result
            self._settle(call, result_of(result))
            await self._send_result(call)
        return result

    async def run_in_thread(
        self,
        given_id: str | None,
        arguments: Mapping[str, Any] | None,
        function: Callable[[], T],
        result_of: Callable[[T], Any],
    ) -> T:
        """Run a blocking tool in a thread of the session; otherwise as `run`.

        A thread cannot be stopped. If the turn ends while it runs, its result enters the history when it
        returns.
        """
        call = self._recorded(given_id)
        if call is not None and call.has_returned:
            return cast(T, call.returned)
        await self._begin(call, arguments, late=True)
        thread = self.turn.tools.run_in_thread(gated(self.turn, function))
        if call is not None:
            thread.add_done_callback(lambda _: self.settle_late(call.given_id, thread, result_of))
        try:
            result = await call_tool(self.turn, lambda: asyncio.shield(thread))
        except Exception as error:
            self._note_failure(call, error)
            raise
        if call is not None:
            call.has_returned, call.returned = True, result
            await self._send_result(call)
        return result

    def settle_late(
        self, given_id: str, thread: asyncio.Future[Any], result_of: Callable[[Any], Any]
    ) -> None:
        """Record the result of a tool's thread, in the step in which it is known."""
        call = self._recorded(given_id)
        if call is None or thread.cancelled():
            return
        if thread.exception() is None:
            self._settle(call, result_of(thread.result()))
        elif self.turn.reason is not None:
            self._fail(call, FAILED)  # nobody waits for it any more, so nobody tries again

    async def begin(self, given_id: str) -> None:
        """Record the begin of a tool that the framework runs in the next steps.

        For hooks that are called before a tool, where `run` cannot call it.

        Raises:
            TurnClosed: The turn has ended: the tool does not begin.
        """
        await self._begin(self._recorded(given_id), None, late=False)

    def _recorded(self, given_id: str | None) -> WrittenCall | None:
        call = self._calls.get(given_id) if given_id else None
        return call if call is not None and call.answer is None else None

    async def run_in_client(self, given_id: str) -> ToolOutput | None:
        """Have the client run an announced call; return its answer, or None.

        Raises:
            TurnClosed: The turn has ended: the client is not asked.
        """
        call = self._calls[given_id]
        answer = self.turn.tools.expect(call.call_id, ToolOutput)
        answered: ToolOutput | None = None
        try:
            await self._begin(call, None, late=False, runs_in="client")
            async with asyncio.timeout(self.turn.tools.confirm_s):
                answered = await answer
        except TimeoutError:
            pass
        finally:
            answer.cancel()
        if answered is None:
            self._fail(call, NO_ANSWER)
        elif answered.error is not None:
            self._fail(call, answered.error)
        else:
            self._settle(call, answered.output)
        await self._send_result(call)
        return answered

    async def _begin(
        self,
        call: WrittenCall | None,
        arguments: Mapping[str, Any] | None,
        late: bool,
        runs_in: RunsIn = "server",
    ) -> None:
        if call is None:
            if self.turn.reason is not None:
                raise TurnClosed("the turn has ended")
            return
        given = call.arguments if arguments is None else sendable(dict(arguments))
        given = given if isinstance(given, dict) else {}
        running = running_event(call.call_id, given, runs_in)
        self.paused.pop(call.given_id, None)
        # The event comes first: it may wait, and nothing may wait between the begin and the tool.
        await self.turn.emit(running)
        if not call.begun:  # else it is tried again, or continues after a pause
            await self.turn.tools.begin(
                call.call_id, call.name, running.arguments, source=self.turn.source, accept_late=late
            )
            call.begun = True

    async def _send_result(self, call: WrittenCall) -> None:
        if (result := call.take_result()) is not None:
            await self.turn.emit(result)

    def _note_failure(self, call: WrittenCall | None, error: Exception) -> None:
        if call is None:
            return
        if isinstance(error, self._pauses):
            self.paused[call.given_id] = error
        else:
            call.failure, call.error = FAILED, error

    # --- results ---------------------------------------------------------------------------------

    def add_result(self, given_id: str, output: Any, error: str | None = None) -> Iterator[Output]:
        """Yield the result for the model, unless it was reported before.

        Args:
            given_id: The framework's id.
            output: The result.
            error: Error message; None after a success.
        """
        yield from self.end_name()
        call = self._recorded(given_id)
        if call is None or call.over:
            return
        if error is None:
            self._settle(call, output)
        else:
            self._fail(call, error)
        if (result := call.take_result()) is not None:
            yield result

    def close(self) -> None:
        """Record the failures that the framework did not try to repair."""
        for call in self._calls.values():
            if call.failure is not None and not call.over:
                self._fail(call, call.failure)

    async def give_up(self, error: Exception) -> Exception:
        """Send the failures of a run that raised; return the error to raise."""
        self.close()
        for call in self._calls.values():
            if self.turn.reason is None:
                await self._send_result(call)
        own = [call.error for call in self._calls.values() if call.error is not None]
        return failure_of_model(error, self.turn.history.messages(), own) or error

    def _settle(self, call: WrittenCall, output: Any) -> None:
        self._record(call, completed_result(call.call_id, output))

    def _fail(self, call: WrittenCall, error: str, status: ToolStatus = "failed") -> None:
        self._record(call, failed_result(call.call_id, error or FAILED, status))

    def _record(self, call: WrittenCall, result: ToolResult) -> None:
        if not call.over:
            call.over, call.failure, call.result = True, None, result
            self.turn.tools.settle(result)

    # --- consent ---------------------------------------------------------------------------------

    def ask(self, given_id: str, arguments: Mapping[str, Any] | None = None) -> Question:
        """Return the question whether an announced call may run."""
        call = self._calls[given_id]
        call.asked = True
        given = call.arguments if arguments is None else sendable(dict(arguments))
        return Question(self.turn, ToolConfirm(call_id=call.call_id, arguments=given))

    def refuse(self, given_id: str) -> ToolResult | None:
        """Return the result of a call that the user did not allow."""
        call = self._calls[given_id]
        self._fail(call, NOT_ALLOWED, "cancelled")
        return call.take_result()


RECORDER: ContextVar[ToolRecorder | None] = ContextVar("bargein_tool_recorder", default=None)
"""Recorder of the turn in whose context the caller runs; None outside a turn."""
