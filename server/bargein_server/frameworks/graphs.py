"""LangGraph's graphs, and agents of `create_agent`, as agents here.

The graph is used as it is; only the tools in its `ToolNode`s are replaced by copies that record their calls.
The history is the server's: a checkpointer, which consent needs, keeps the graph's other state, and its
messages are overwritten at the start of each turn. LangGraph writes checkpoints while it is cancelled, so a
turn of a graph with a checkpointer waits until the turn before it has cleaned up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from bargein_protocol import Data
from bargein_protocol import Output as OutputEvent
from bargein_server.agent import Agent, Message, Output, Turn

from .langchain_reader import LangChainReader
from .langchain_tools import gate, pauses, record_tools
from .lifetime import Lifetime
from .messages import langchain_messages, require
from .tool_recorder import NOT_ALLOWED, RECORDER, ToolRecorder
from .written_call import FinalTool, Question, sendable

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.types import Interrupt

CLEANUP_WAIT_S = 3.0
"""Maximum wait for the cleanup of the session's last turn; the server abandons a turn earlier."""

MODES = ["messages", "updates", "custom"]

NO_CHECKPOINTER = (
    "the graph asked for consent, but it has no checkpointer to continue from: "
    "make it with checkpointer=InMemorySaver()"
)

ToInput = Callable[["list[BaseMessage]", Turn], Any]
"""Makes a graph's input from LangChain messages."""

Resume = Callable[[Any, bool], Any]
"""Returns the value that `interrupt(value)` returns in the graph, from `value` and the user's decision."""


def langgraph_agent(
    graph: CompiledStateGraph[Any, Any, Any, Any]
    | Callable[[], AbstractAsyncContextManager[CompiledStateGraph[Any, Any, Any, Any]]],
    *,
    final_tool: FinalTool | None = None,
    answer_nodes: Collection[str] | None = None,
    to_input: ToInput | None = None,
    config: Mapping[str, Any] | None = None,
    context: Callable[[Turn], Any] | None = None,
    resume: Resume | None = None,
    max_tokens: int | None = None,
) -> Agent:
    """Return an agent that runs a compiled graph.

        agent = langgraph_agent(create_agent(ChatOpenAI(model="gpt-5"), [search]))

    Text, thoughts, tool calls with their arguments, results, steps and usage are sent as they arrive. Outputs
    of this server that a node passes to its stream writer are sent as they are, other values as `data` events
    named `custom`. `interrupt()` and `HumanInTheLoopMiddleware` become `tool.confirm`.

    An interrupt closes the model's stream and cancels the graph. Plain tools run in the session's threads:
    they cannot be stopped, but none begins after the interrupt, and a result that arrives later is recorded.

    Args:
        graph: The compiled graph; its state has `messages`, unless `to_input` is given. Or a function that
            returns an async context manager of one, for a graph whose tools or checkpointer hold connections:
            it is entered when the server starts and left when it stops.
        final_tool: The tool whose call is the answer, and the field with the text.
        answer_nodes: Nodes whose text is the answer; all but those of tools if None.
        to_input: Makes the graph's input from LangChain messages, the user's text last.
        config: Configuration of each run.
        context: Makes the graph's runtime context.
        resume: Makes the value for `interrupt()`; by default it is whether the user allowed it.
        max_tokens: Bound of the history, see `History.messages`.

    Raises:
        NotInstalled: `langgraph` is not installed.
        TypeError: The graph was not compiled.
    """
    require("langgraph", "langchain", "langgraph_agent")
    options = {"final_tool": final_tool, "answer_nodes": answer_nodes, "resume": resume}
    return _GraphAgent(graph, to_input, dict(config or {}), context, max_tokens, options)


class _MessagesInput:
    def __init__(self, graph: CompiledStateGraph[Any, Any, Any, Any]) -> None:
        self._overwrites = bool(graph.checkpointer)

    def __call__(self, messages: list[BaseMessage], turn: Turn) -> dict[str, Any]:
        if not self._overwrites:
            return {"messages": messages}
        from langchain_core.messages import RemoveMessage
        from langgraph.graph.message import REMOVE_ALL_MESSAGES

        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), *messages]}


class _Prepared(NamedTuple):
    """A graph whose tools record their calls.

    Args:
        graph: The graph.
        tool_nodes: Names of its tool nodes.
        to_input: Makes its input.
    """

    graph: CompiledStateGraph[Any, Any, Any, Any]
    tool_nodes: Collection[str]
    to_input: ToInput

    @classmethod
    def of(cls, graph: CompiledStateGraph[Any, Any, Any, Any], to_input: ToInput | None) -> _Prepared:
        """Return a graph whose tools are replaced."""
        return cls(graph, record_tools(graph), to_input or _MessagesInput(graph))


def _opening(make: Any, to_input: ToInput | None) -> Callable[[], AbstractAsyncContextManager[_Prepared]]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[_Prepared, None]:
        async with make() as graph:
            yield _Prepared.of(graph, to_input)

    return opened


class _GraphAgent:
    def __init__(
        self,
        graph: Any,
        to_input: ToInput | None,
        config: dict[str, Any],
        context: Callable[[Turn], Any] | None,
        max_tokens: int | None,
        options: dict[str, Any],
    ) -> None:
        made = hasattr(graph, "astream")
        if not made and not callable(graph):
            kind = type(graph).__name__
            raise TypeError(f"expected a compiled graph or a function, got {kind}: call its compile()")
        self._given = _Prepared.of(graph, to_input) if made else None
        self._life = Lifetime(_opening(graph, to_input))
        self._config = config
        self._context = context
        self._max_tokens = max_tokens
        self._options = options
        self._last: dict[str, asyncio.Event] = {}

    async def startup(self) -> None:
        """Open the graph; the server calls it when it starts."""
        await self._prepared()

    async def _prepared(self) -> _Prepared:
        return self._given or await self._life.startup()

    async def shutdown(self) -> None:
        """Close the graph; the server calls it when it stops."""
        await self._life.shutdown()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Run the graph for one turn."""
        graph, tool_nodes, to_input = await self._prepared()
        astream: Any = graph.astream
        recorder = ToolRecorder(turn, self._options["final_tool"], pauses())
        reader = _Reader(recorder, tool_nodes, self._options["answer_nodes"])
        config = self._config_of(turn, recorder)
        context = None if self._context is None else self._context(turn)
        RECORDER.set(recorder)
        async with self._in_order(turn) if graph.checkpointer else nullcontext():
            given: Any = to_input(langchain_messages(self._history(turn)), turn)
            try:
                while given is not None:
                    stream = astream(given, config, context=context, stream_mode=MODES, subgraphs=True)
                    async with aclosing(stream):
                        async for _, mode, item in stream:
                            for output in reader.read(mode, item):
                                yield output
                    interrupts = reader.take_interrupts()
                    if interrupts and not graph.checkpointer:
                        raise RuntimeError(NO_CHECKPOINTER)  # before the user is asked in vain
                    consent = _Consent(recorder, interrupts, self._options["resume"])
                    async with aclosing(consent.outputs()) as outputs:
                        async for output in outputs:
                            yield output
                    given = consent.command()
            except Exception as error:
                failure = await recorder.give_up(error)
                if failure is error:
                    raise
                raise failure from error
            finally:
                recorder.close()
                RECORDER.set(None)

    def _history(self, turn: Turn) -> list[Message]:
        return turn.history.messages(self._max_tokens)

    def _config_of(self, turn: Turn, recorder: ToolRecorder) -> dict[str, Any]:
        given = self._config
        configurable = {"thread_id": str(turn.session.id), **given.get("configurable", {})}
        return {
            **given,
            "configurable": configurable,
            "callbacks": [*(given.get("callbacks") or ()), gate(recorder)],
        }

    @asynccontextmanager
    async def _in_order(self, turn: Turn) -> AsyncGenerator[None, None]:
        """Wait for the last turn's cleanup, whose checkpoints would be newest."""
        session, over = str(turn.session.id), asyncio.Event()
        before, self._last[session] = self._last.get(session), over
        try:
            if before is not None:
                try:
                    async with asyncio.timeout(CLEANUP_WAIT_S):
                        await before.wait()
                except TimeoutError:
                    pass  # it was abandoned
            yield
        finally:
            over.set()
            if self._last.get(session) is over:
                del self._last[session]


class _Reader:
    """Reader of a graph's stream.

    Args:
        recorder: The turn's tool calls.
        tool_nodes: Names of the nodes that run tools; text of models in them is the tools' own.
        answer_nodes: Names of the nodes whose text is the answer; None for all others.
    """

    def __init__(
        self, recorder: ToolRecorder, tool_nodes: Collection[str], answer_nodes: Collection[str] | None
    ) -> None:
        self._reader = LangChainReader(recorder)
        self._tool_nodes = tool_nodes
        self._answer_nodes = answer_nodes
        self._interrupts: dict[str, Interrupt] = {}

    def read(self, mode: str, item: Any) -> Iterator[Output]:
        """Yield the outputs of an item of the stream."""
        if mode == "messages":
            message, metadata = item
            yield from self._read_message(message, metadata.get("langgraph_node", ""))
        elif mode == "updates":
            for node, update in item.items():
                yield from self._read_update(node, update)
        elif isinstance(item, str | OutputEvent):
            yield cast(Output, item)
        else:
            yield Data(name="custom", value=sendable(item))

    def take_interrupts(self) -> list[Interrupt]:
        """Return the interrupts since the last call."""
        taken, self._interrupts = list(self._interrupts.values()), {}
        return taken

    def _read_message(self, message: BaseMessage, node: str) -> Iterator[Output]:
        from langchain_core.messages import AIMessage, ToolMessage

        if isinstance(message, ToolMessage):
            yield from self._reader.read(message)
        elif isinstance(message, AIMessage) and node not in self._tool_nodes:
            is_answer = self._answer_nodes is None or node in self._answer_nodes
            yield from self._reader.read(message, with_text=is_answer)

    def _read_update(self, node: str, update: Any) -> Iterator[Output]:
        from langchain_core.messages import ToolMessage

        if node == "__interrupt__":
            self._interrupts |= {interrupt.id: interrupt for interrupt in update}
            return
        messages = update.get("messages") if isinstance(update, Mapping) else None
        for message in messages if isinstance(messages, list) else ():
            if isinstance(message, ToolMessage):  # of a node that writes it without a tool
                yield from self._reader.read(message)
        if "." not in node:  # the hooks of middleware are nodes too, such as `Limit.before_model`
            yield self._reader.step_ended(node)


class _Consent:
    """The user's consent to the calls at which a graph was interrupted.

    Args:
        recorder: The turn's tool calls.
        interrupts: The interrupts of the run.
        resume: Makes the value for a plain `interrupt()`.
    """

    def __init__(self, recorder: ToolRecorder, interrupts: list[Interrupt], resume: Resume | None) -> None:
        self._recorder = recorder
        self._interrupts = interrupts
        self._resume = resume
        self._answers: dict[str, Any] = {}

    async def outputs(self) -> AsyncGenerator[Output, None]:
        """Ask about all interrupts at once, and wait for the answers."""
        asked: list[tuple[Interrupt, str, Question]] = []
        for interrupt in self._interrupts:
            for name, arguments, given_id in self._actions(interrupt):
                call_id = given_id or f"{interrupt.id}-{len(asked)}"
                for output in self._recorder.add_call(call_id, name, arguments):
                    yield output
                question = self._recorder.ask(call_id, arguments)
                yield question.event
                asked.append((interrupt, call_id, question))
        decisions: dict[str, list[bool]] = {}
        for interrupt, call_id, question in asked:
            allowed = await question.allowed()
            decisions.setdefault(interrupt.id, []).append(allowed)
            if call_id in self._recorder.paused:
                continue  # the tool itself gets the answer
            if not allowed and (refused := self._recorder.refuse(call_id)) is not None:
                yield refused
            elif _is_plain(interrupt):
                for output in self._recorder.add_result(call_id, "allowed"):
                    yield output
        for interrupt in self._interrupts:
            self._answers[interrupt.id] = self._answer(interrupt, decisions[interrupt.id])

    def _actions(self, interrupt: Interrupt) -> Iterator[tuple[str, Mapping[str, Any], str | None]]:
        """Yield name, arguments and any id of each call of an interrupt."""
        value = interrupt.value
        if _is_request(value):
            for action in value["action_requests"]:
                name, arguments = action["name"], action["args"]
                yield name, arguments, self._recorder.find(name, arguments)
        elif _is_approval(value):
            yield value["name"], value["args"], value["tool_call_id"]
        else:
            yield "interrupt", _asked(value), self._paused_by(interrupt)

    def _paused_by(self, interrupt: Interrupt) -> str | None:
        """Return the call whose tool raised an interrupt."""
        for given_id, error in self._recorder.paused.items():
            raised = error.args[0] if error.args else ()
            if isinstance(raised, Sequence) and interrupt in raised:
                return given_id
        return None

    def command(self) -> Any:
        """Return the input that resumes the graph; None if it was not interrupted."""
        if not self._answers:
            return None
        from langgraph.types import Command

        return Command(resume=self._answers)

    def _answer(self, interrupt: Interrupt, allowed: list[bool]) -> Any:
        value = interrupt.value
        decisions: list[dict[str, str]] = [
            {"type": "approve"} if yes else {"type": "reject", "message": NOT_ALLOWED} for yes in allowed
        ]
        if _is_request(value):
            return {"decisions": decisions}
        if _is_approval(value):
            return decisions[0]
        return allowed[0] if self._resume is None else self._resume(value, allowed[0])


def _asked(value: Any) -> dict[str, Any]:
    """Return the value of a plain `interrupt()` as arguments for the user."""
    given = sendable(value)
    return given if isinstance(given, dict) else {"question" if isinstance(given, str) else "value": given}


def _is_request(value: Any) -> bool:
    return isinstance(value, dict) and "action_requests" in value


def _is_approval(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "tool_approval"


def _is_plain(interrupt: Interrupt) -> bool:
    return not (_is_request(interrupt.value) or _is_approval(interrupt.value))
