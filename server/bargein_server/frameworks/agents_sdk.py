"""Agents of the OpenAI Agents SDK as agents of this server.

The SDK's run is a background task with a queue of any length. So it is cancelled explicitly, and it waits
after each answer of the model until the stream has been read that far: no tool overtakes its own call, and
none begins while the turn is held.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from copy import copy
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any

from bargein_protocol import Status, StepEnded, Thought
from bargein_server.agent import Agent, Output, Turn

from ..agents.model_fields import slices
from .lifetime import Lifetime
from .messages import require, response_items
from .tool_recorder import NOT_ALLOWED, RECORDER, ToolRecorder
from .written_call import FinalTool

if TYPE_CHECKING:
    from agents.stream_events import StreamEvent

    from agents import Agent as SDKAgent
    from agents import RunConfig, RunHooks, RunResultStreaming

_RECORDED = "__bargein_recorded__"
_PLAIN = "__agents_sync_function_tool__"
"""Attribute by which the SDK marks a tool that is no `async def`, and so runs in a thread."""

_TEXT = ("response.output_text.delta", "response.refusal.delta")
_THOUGHT = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


def agents_sdk_agent(
    agent: SDKAgent[Any],
    *,
    final_tool: FinalTool | None = None,
    context: Callable[[Turn], Any] | None = None,
    run_config: RunConfig | None = None,
    max_turns: int = 10,
    max_tokens: int | None = None,
) -> Agent:
    """Return an agent that runs an agent of the OpenAI Agents SDK.

        agent = agents_sdk_agent(Agent(name="Assistant", tools=[search]))

    Text, thoughts, tool calls with their arguments, results, steps and usage are sent as they arrive, from
    handoffs too; a `status` names the agent that takes over. Tools with `needs_approval` ask by
    `tool.confirm`. Sessions of the SDK are not used: the history is the server's, and each turn begins with
    this agent. Servers in `mcp_servers` that are not connected are connected when this server starts, and
    closed when it stops.

    An interrupt cancels the run, which closes the model's stream. The function tools of the agents are
    changed in place, so that they record their calls. Plain ones run in the session's threads: they cannot
    be stopped, but none begins after the interrupt, and a result that arrives later is recorded.

    Args:
        agent: The agent.
        final_tool: The tool whose call is the answer, and the field with the text.
        context: Makes the context of a run.
        run_config: Configuration of each run.
        max_turns: Maximum number of model calls in a turn.
        max_tokens: Bound of the history, see `History.messages`.

    Raises:
        NotInstalled: `openai-agents` is not installed.
    """
    require("agents", "openai-agents", "agents_sdk_agent")
    _record_agent(agent)
    return _SDKAgent(agent, final_tool, context, run_config, max_turns, max_tokens)


class _SDKAgent:
    def __init__(
        self,
        agent: SDKAgent[Any],
        final_tool: FinalTool | None,
        context: Callable[[Turn], Any] | None,
        run_config: RunConfig | None,
        max_turns: int,
        max_tokens: int | None,
    ) -> None:
        self._agent = agent
        self._final_tool = final_tool
        self._context = context
        self._run_config = run_config
        self._max_turns = max_turns
        self._max_tokens = max_tokens
        self._servers = Lifetime(partial(_connected, agent))

    async def startup(self) -> None:
        """Connect the MCP servers; the server calls it when it starts."""
        if _mcp_servers(self._agent):
            await self._servers.startup()

    async def shutdown(self) -> None:
        """Close the MCP servers that `startup` connected, when the server stops."""
        await self._servers.shutdown()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Run the agent for one turn."""
        await self.startup()  # in an application without lifespan
        recorder = ToolRecorder(turn, self._final_tool)
        reader = _Reader(recorder)
        hooks = _hooks_class()(recorder)
        RECORDER.set(recorder)
        given: Any = response_items(turn.history.messages(self._max_tokens))
        try:
            while given is not None:
                result = self._run(given, turn, hooks)
                events = result.stream_events()
                try:
                    async for event in events:
                        for output in reader.read(event):
                            yield output
                finally:
                    # Before the stream is closed: that would wait for the end of the run.
                    if not result.is_complete:
                        result.cancel()
                    await events.aclose()  # type: ignore[attr-defined]
                consent = _Consent(recorder, result)
                async for output in consent.outputs():
                    yield output
                given = consent.state
        except Exception as error:
            failure = await recorder.give_up(error)
            if failure is error:
                raise
            raise failure from error
        finally:
            recorder.close()
            RECORDER.set(None)

    def _run(self, given: Any, turn: Turn, hooks: RunHooks[Any]) -> RunResultStreaming:
        from agents import Runner

        context = None if self._context is None or not isinstance(given, list) else self._context(turn)
        return Runner.run_streamed(
            self._agent,
            given,
            context=context,
            max_turns=self._max_turns,
            hooks=hooks,
            run_config=self._run_config,
        )


class _Reader:
    """Reader of a run's events.

    Args:
        recorder: The turn's tool calls.
    """

    def __init__(self, recorder: ToolRecorder) -> None:
        self._recorder = recorder
        self._steps = 0
        self._name = ""

    def read(self, event: StreamEvent) -> Iterator[Output]:
        """Yield the outputs of an event."""
        if event.type == "raw_response_event":
            yield from self._read_raw(event.data)
        elif event.type == "agent_updated_stream_event":
            name = event.new_agent.name
            if self._name not in ("", name):
                yield Status(message=f"Transferred to {name}")
            self._name = name
        elif getattr(event, "name", "") in ("tool_output", "handoff_occured"):
            raw: Any = event.item.raw_item
            if isinstance(raw, dict) and isinstance(call_id := raw.get("call_id"), str):
                yield from self._recorder.add_result(call_id, raw.get("output"))

    def _read_raw(self, event: Any) -> Iterator[Output]:
        if event.type in _TEXT:
            yield str(event.delta)
        elif event.type in _THOUGHT:
            for thought in slices(str(event.delta)):
                yield Thought(text=thought)
        elif event.type == "response.output_item.added":
            if event.item.type == "function_call":
                stream = (self._steps, event.output_index)
                yield from self._recorder.add_name(stream, event.item.call_id, event.item.name)
        elif event.type == "response.function_call_arguments.delta":
            yield from self._recorder.add_arguments((self._steps, event.output_index), event.delta)
        elif event.type in ("response.completed", "response.incomplete"):
            yield from self._read_response(event.response)

    def _read_response(self, response: Any) -> Iterator[Output]:
        for item in response.output:
            if item.type == "function_call":
                yield from self._recorder.add_call(item.call_id, item.name, item.arguments)
        if response.usage is not None:
            self._recorder.turn.add_usage(response.usage.input_tokens, response.usage.output_tokens)
        yield StepEnded(index=self._steps, kind="model")
        self._steps += 1


class _Consent:
    """The user's consent to the calls that a run waits for.

    Attributes:
        state: The state to continue with; None if the run waits for nothing.
    """

    def __init__(self, recorder: ToolRecorder, result: RunResultStreaming) -> None:
        self.state: Any = None
        self._recorder = recorder
        self._result = result

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """Ask about all calls at once, and wait for the answers."""
        items = list(self._result.interruptions)
        if not items:
            return
        state = self._result.to_state()
        questions = []
        for item in items:
            raw: Any = item.raw_item
            for output in self._recorder.add_call(raw.call_id, raw.name, raw.arguments or "{}"):
                yield output
            question = self._recorder.ask(raw.call_id)
            yield question.event
            questions.append((item, raw.call_id, question))
        for item, call_id, question in questions:
            if await question.allowed():
                state.approve(item)
                continue
            state.reject(item, rejection_message=NOT_ALLOWED)
            if (refused := self._recorder.refuse(call_id)) is not None:
                yield refused
        self.state = state


@cache
def _hooks_class() -> Any:
    from agents import RunHooks

    class Hooks(RunHooks):
        def __init__(self, recorder: ToolRecorder) -> None:
            self._recorder = recorder

        async def on_agent_start(self, context: Any, agent: Any) -> None:
            _record_agent(agent)  # a handoff may make its agent late

        async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
            for item in response.output:
                if getattr(item, "type", "") == "function_call":
                    await self._recorder.written(item.call_id)

        async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
            if not _is_recorded(tool) and (call_id := getattr(context, "tool_call_id", None)):
                await self._recorder.begin(call_id)  # such as a tool of an MCP server

        async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
            if not _is_recorded(tool) and (call_id := getattr(context, "tool_call_id", None)):
                for output in self._recorder.add_result(call_id, result):
                    await self._recorder.turn.emit(output)

    return Hooks


def _agents(agent: Any, seen: dict[int, Any]) -> Iterator[Any]:
    """Yield an agent and those that it hands off to, each once."""
    if id(agent) in seen:
        return
    seen[id(agent)] = agent
    yield agent
    for handoff in getattr(agent, "handoffs", ()):
        target = handoff if hasattr(handoff, "handoffs") else getattr(handoff, "_agent_ref", lambda: None)()
        if target is not None:
            yield from _agents(target, seen)


def _record_agent(agent: Any) -> None:
    """Record the calls of the tools of an agent and of its handoffs."""
    from agents import FunctionTool

    for each in _agents(agent, {}):
        for tool in getattr(each, "tools", ()):
            if isinstance(tool, FunctionTool) and not _is_recorded(tool):
                tool.on_invoke_tool = _recorded(tool.on_invoke_tool)


def _mcp_servers(agent: Any) -> list[Any]:
    """Return the MCP servers of an agent and its handoffs to be connected."""
    servers = (server for each in _agents(agent, {}) for server in getattr(each, "mcp_servers", ()))
    return [server for server in servers if getattr(server, "session", None) is None]


def _connected(agent: Any) -> AbstractAsyncContextManager[Any]:
    from agents.mcp import MCPServerManager

    return MCPServerManager(_mcp_servers(agent), strict=True, connect_in_parallel=True)


def _is_recorded(tool: Any) -> bool:
    return bool(getattr(getattr(tool, "on_invoke_tool", None), _RECORDED, False))


def _recorded(invoke: Any) -> Any:
    """Return an invoker that records the call, of the SDK's own class."""
    if not hasattr(invoke, "__dict__") or hasattr(invoke, "__code__") or hasattr(invoke, "__func__"):

        @wraps(invoke)
        async def recorded(context: Any, arguments: str) -> Any:
            return await _invoke(invoke, context, arguments)

        setattr(recorded, _RECORDED, True)
        return recorded
    made = copy(invoke)
    kind: Any = type(invoke)
    made.__class__ = _recorded_class(kind)
    return made


@cache
def _recorded_class(kind: Any) -> Any:
    async def call(self: Any, context: Any, arguments: str) -> Any:
        return await _invoke(
            partial(kind.__call__, self), context, arguments, plain=getattr(self, _PLAIN, False)
        )

    return type(kind.__name__, (kind,), {"__call__": call, _RECORDED: True})


async def _invoke(invoke: Any, context: Any, arguments: str, plain: bool = False) -> Any:
    recorder = RECORDER.get()
    if recorder is None:
        return await invoke(context, arguments)
    call_id = context.tool_call_id
    if not plain:
        return await recorder.run(call_id, None, lambda: invoke(context, arguments), _unchanged)
    # The SDK would call it in a thread of the event loop's own pool, where it may begin at any time.
    blocking = partial(_run_in_a_loop, invoke, context, arguments)
    return await recorder.run_in_thread(call_id, None, blocking, _unchanged)


def _run_in_a_loop(invoke: Any, context: Any, arguments: str) -> Any:
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(_InThisThread())
        return runner.run(invoke(context, arguments))


class _InThisThread(ThreadPoolExecutor):
    """Executor that calls at once, for tools that have a thread already."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Call a function, and return its result."""
        made: Future[Any] = Future()
        try:
            made.set_result(function(*args, **options))
        except StopIteration as error:  # no asyncio future takes it, and its waiter would wait for ever
            made.set_exception(RuntimeError(f"the tool raised {error!r}"))
        except BaseException as error:
            made.set_exception(error)
        return made


def _unchanged(result: Any) -> Any:
    return result
