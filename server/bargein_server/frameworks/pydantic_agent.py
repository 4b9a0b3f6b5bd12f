"""Agents of Pydantic AI as agents of this server.

The agent is used as it is: what a turn needs is added to each run as capabilities.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import suppress
from contextvars import ContextVar
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from bargein_protocol import StepEnded, Thought
from bargein_server.agent import Agent, Output, Turn

from ..agents.model_fields import slices
from .lifetime import Lifetime
from .messages import pydantic_messages, require
from .tool_calling import gated
from .tool_recorder import NO_ANSWER, NOT_ALLOWED, RECORDER, ToolRecorder
from .written_call import FinalTool

if TYPE_CHECKING:
    from pydantic_ai import Agent as PydanticAgent
    from pydantic_ai import AgentRunEvents


def pydantic_ai_agent(
    agent: PydanticAgent[Any, Any],
    *,
    final_tool: FinalTool | None = None,
    deps: Callable[[Turn], Any] | None = None,
    max_tokens: int | None = None,
    **options: Any,
) -> Agent:
    """Return an agent that runs an agent of Pydantic AI.

        agent = pydantic_ai_agent(Agent("openai:gpt-5", tools=[search]))

    Text, thoughts, tool calls with their arguments, results, steps and usage are sent as they arrive. Tools
    that need approval ask by `tool.confirm`; external tools and those that raise `CallDeferred` run in the
    client. Structured output is the answer, as JSON. The system prompt is a part of each turn's messages.
    The agent is entered when the server starts and left when it stops, so its MCP servers stay connected.

    An interrupt cancels the run, which closes the model's stream. Plain tools run in the session's threads:
    they cannot be stopped, but none begins after the interrupt, and a result that arrives later is recorded.

    Args:
        agent: The agent.
        final_tool: The tool whose call is the answer, and the field whose text is streamed. For an agent with
            an `output_type` that is an output tool, `final_result` unless it has another name. Without it the
            answer is the whole output, sent when it is complete.
        deps: Makes the dependencies of a run.
        max_tokens: Bound of the history, see `History.messages`.
        options: Further arguments of `run_stream_events`, such as `model_settings`.

    Raises:
        NotInstalled: `pydantic-ai-slim` is not installed.
    """
    require("pydantic_ai", "pydantic-ai-slim", "pydantic_ai_agent")
    return _PydanticAgent(agent, final_tool, deps, max_tokens, options)


class _PydanticAgent:
    def __init__(
        self,
        agent: PydanticAgent[Any, Any],
        final_tool: FinalTool | None,
        deps: Callable[[Turn], Any] | None,
        max_tokens: int | None,
        options: dict[str, Any],
    ) -> None:
        self._agent = agent
        self._final_tool = final_tool
        self._deps = deps
        self._max_tokens = max_tokens
        self._options = options
        self._life = Lifetime(lambda: agent)

    async def startup(self) -> None:
        """Enter the agent, which connects its MCP servers, when the server starts."""
        await self._life.startup()

    async def shutdown(self) -> None:
        """Leave the agent; the server calls it when it stops."""
        await self._life.shutdown()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Run the agent for one turn."""
        recorder = ToolRecorder(turn, self._final_tool)
        reader = _Reader(recorder)
        *before, own = turn.history.messages(self._max_tokens)
        options = dict(self._options)
        options["capabilities"] = [*options.get("capabilities", ()), *_capabilities(recorder)]
        if self._deps is not None:
            options["deps"] = self._deps(turn)
        RECORDER.set(recorder)
        run = self._agent.run_stream_events(
            own["content"], message_history=pydantic_messages(before), **options
        )
        try:
            async with run as events:
                try:
                    async for event in events:
                        for output in reader.read(event):
                            yield output
                finally:
                    _add_usage(turn, events)
        except Exception as error:
            failure = await recorder.give_up(error)
            if failure is error:
                raise
            raise failure from error
        finally:
            recorder.close()
            RECORDER.set(None)


def _add_usage(turn: Turn, events: AgentRunEvents[Any]) -> None:
    from pydantic_ai.exceptions import UserError

    with suppress(UserError):  # the run has not begun
        turn.add_usage(events.usage.input_tokens, events.usage.output_tokens)


class _Reader:
    """Reader of a run's events.

    Args:
        recorder: The turn's tool calls.
    """

    def __init__(self, recorder: ToolRecorder) -> None:
        self._recorder = recorder
        self._steps = 0
        self._step = ""
        self._has_output_tool = False

    def read(self, event: Any) -> Iterator[Output]:
        """Yield the outputs of an event."""
        match event.event_kind:
            case "part_start":
                yield from self._begin_step("model")
                yield from self._read_part(event.index, event.part)
            case "part_delta":
                yield from self._read_delta(event.index, event.delta)
            case "function_tool_call" | "output_tool_call":
                yield from self._begin_step("tools")
                part = event.part
                self._has_output_tool |= event.event_kind == "output_tool_call"
                yield from self._recorder.add_call(part.tool_call_id, part.tool_name, part.args or "{}")
            case "function_tool_result" | "output_tool_result":
                yield from self._read_result(event.part)
            case "agent_run_result":
                yield from self._begin_step("")
                if self._has_output_tool and not self._recorder.answered:
                    yield _answer_of(event.result.output)

    def _begin_step(self, kind: str) -> Iterator[Output]:
        if self._step and kind != self._step:
            yield StepEnded(index=self._steps, kind=self._step)
            self._steps += 1
        self._step = kind

    def _read_part(self, index: int, part: Any) -> Iterator[Output]:
        if part.part_kind == "text" and part.content:
            yield part.content
        elif part.part_kind == "thinking" and part.content:
            for thought in slices(part.content):
                yield Thought(text=thought)
        elif part.part_kind == "tool-call":
            yield from self._recorder.add_name(index, part.tool_call_id, part.tool_name)
            yield from self._recorder.add_arguments(index, _text_of(part.args))

    def _read_delta(self, index: int, delta: Any) -> Iterator[Output]:
        if delta.part_delta_kind == "text" and delta.content_delta:
            yield delta.content_delta
        elif delta.part_delta_kind == "thinking" and delta.content_delta:
            for thought in slices(delta.content_delta):
                yield Thought(text=thought)
        elif delta.part_delta_kind == "tool_call":
            if delta.tool_name_delta:
                yield from self._recorder.add_name(index, None, delta.tool_name_delta)
            yield from self._recorder.add_arguments(index, _text_of(delta.args_delta))

    def _read_result(self, part: Any) -> Iterator[Output]:
        failed = part.part_kind == "retry-prompt" or getattr(part, "outcome", "success") != "success"
        error = part.model_response() if part.part_kind == "retry-prompt" else str(part.content)
        yield from self._recorder.add_result(part.tool_call_id, part.content, error if failed else None)


def _answer_of(output: Any) -> str:
    """Return an output tool's output as text: a string, or else JSON."""
    if isinstance(output, str):
        return output
    from pydantic_core import to_json

    return to_json(output, fallback=str).decode()


def _text_of(arguments: str | Mapping[str, Any] | None) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else ""


def _capabilities(recorder: ToolRecorder) -> list[Any]:
    from pydantic_ai.capabilities import HandleDeferredToolCalls, ReinjectSystemPrompt, UseThreadExecutor

    return [
        _recording_class()(recorder),
        HandleDeferredToolCalls(partial(_resolve, recorder)),
        UseThreadExecutor(SessionExecutor(recorder)),
        # Pydantic AI leaves the system prompt out when it gets a history.
        ReinjectSystemPrompt(),
    ]


async def _resolve(recorder: ToolRecorder, context: Any, requests: Any) -> Any:
    """Ask the user for approvals, and have the client run external calls."""
    async with asyncio.TaskGroup() as group:
        work = [group.create_task(_run_in_client(recorder, part.tool_call_id)) for part in requests.calls]
        asking = group.create_task(_ask(recorder, requests.approvals))
    calls = {part.tool_call_id: task.result() for part, task in zip(requests.calls, work, strict=True)}
    return requests.build_results(approvals=asking.result(), calls=calls)


async def _run_in_client(recorder: ToolRecorder, call_id: str) -> Any:
    from pydantic_ai.exceptions import ToolFailed

    await recorder.written(call_id)
    answer = await recorder.run_in_client(call_id)
    if answer is None:
        return ToolFailed(NO_ANSWER)
    return answer.output if answer.error is None else ToolFailed(answer.error)


async def _ask(recorder: ToolRecorder, parts: Sequence[Any]) -> dict[str, Any]:
    """Return the user's decisions on calls, by their ids."""
    from pydantic_ai.tools import ToolDenied

    turn, questions = recorder.turn, []
    approvals: dict[str, Any] = {}
    for part in parts:
        await recorder.written(part.tool_call_id)
        question = recorder.ask(part.tool_call_id)
        await turn.emit(question.event)
        questions.append((part.tool_call_id, question))
    for call_id, question in questions:
        allowed = await question.allowed()
        approvals[call_id] = True if allowed else ToolDenied(NOT_ALLOWED)
        if not allowed and (refused := recorder.refuse(call_id)) is not None:
            await turn.emit(refused)
    return approvals


@cache
def _recording_class() -> Any:
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.toolsets import WrapperToolset

    class RecordedToolset(WrapperToolset[Any]):
        async def call_tool(self, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any) -> Any:
            work = partial(self.wrapped.call_tool, name, tool_args, ctx, tool)
            recorder = RECORDER.get()
            if recorder is None:
                return await work()
            await recorder.written(ctx.tool_call_id)
            token = _RUNNING.set(ctx.tool_call_id)
            try:
                return await recorder.run(ctx.tool_call_id, None, work, _value_of, late=True)
            finally:
                _RUNNING.reset(token)

    class Recording(AbstractCapability[Any]):
        def __init__(self, recorder: ToolRecorder) -> None:
            self._recorder = recorder

        def get_wrapper_toolset(self, toolset: Any) -> Any:
            return RecordedToolset(toolset)

    return Recording


def _value_of(result: Any) -> Any:
    """Return the part of a tool's result that the model gets."""
    from pydantic_ai.messages import ToolReturn

    return result.return_value if isinstance(result, ToolReturn) else result


_RUNNING: ContextVar[str | None] = ContextVar("bargein_running_tool", default=None)
"""The call whose tool runs in this context."""


class SessionExecutor(Executor):
    """Executor for blocking tools: session threads that end with the turn.

    Args:
        recorder: The turn's tool calls.
    """

    def __init__(self, recorder: ToolRecorder) -> None:
        self._recorder = recorder

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        """Run a function in a thread; call it on the event loop."""
        made: Future[Any] = Future()
        turn = self._recorder.turn
        thread = turn.tools.run_in_thread(gated(turn, partial(function, *args, **options)))
        thread.add_done_callback(partial(self._copy_result, made, _RUNNING.get()))
        return made

    def _copy_result(self, made: Future[Any], call_id: str | None, thread: asyncio.Future[Any]) -> None:
        if thread.cancelled():
            made.cancel()
        elif not made.set_running_or_notify_cancel():  # nobody waits for it any more
            if call_id is not None:
                self._recorder.settle_late(call_id, thread, _value_of)
        elif (error := thread.exception()) is not None:
            made.set_exception(error)
        else:
            made.set_result(thread.result())
