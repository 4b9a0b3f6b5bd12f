"""LangChain's tools with a record of their calls."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .messages import require
from .tool_recorder import RECORDER, ToolRecorder

if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler
    from langchain_core.tools import BaseTool

_TOOLS = "__bargein_recorded__"


class _Invocation(NamedTuple):
    call_id: str
    arguments: dict[str, Any]


_INVOCATION: ContextVar[_Invocation | None] = ContextVar("bargein_tool_invocation", default=None)
"""The call that a tool is invoked for, from `ainvoke` to its function."""


def pauses() -> tuple[type[BaseException], ...]:
    """Return the exceptions by which LangGraph suspends a tool."""
    from langgraph.errors import GraphBubbleUp

    return (GraphBubbleUp,)


def record_tools(graph: Any) -> Collection[str]:
    """Replace a graph's tools by recorded copies; return its tool nodes.

    The nodes of subgraphs are included. A tool that a node calls by itself must be wrapped with
    `recorded_tool` where the graph is made.
    """
    from langgraph.prebuilt import ToolNode

    names = set()
    graphs = [graph, *(found for _, found in graph.get_subgraphs(recurse=True))]
    for part in graphs:
        for name, node in part.nodes.items():
            if isinstance(tools := getattr(node, "bound", None), ToolNode):
                names.add(name)
                by_name = tools.tools_by_name
                by_name |= {key: recorded_tool(tool) for key, tool in by_name.items()}
    return names


def recorded_tool(tool: BaseTool) -> BaseTool:
    """Return a copy of a tool that records its calls in their turn.

    A plain tool runs in a thread of the session. Outside a turn of `langgraph_agent` the copy works as the
    original. For graphs without a `ToolNode`; in one, tools are recorded anyway.

    Args:
        tool: A tool, as made by `@tool`.

    Raises:
        NotInstalled: `langchain-core` is not installed.
    """
    require("langchain_core", "langchain-core", "recorded_tool")
    if getattr(type(tool), _TOOLS, False):
        return tool
    copy = tool.model_copy()
    object.__setattr__(copy, "__class__", _recorded_class(type(tool), _is_plain(tool)))
    return copy


def _is_plain(tool: BaseTool) -> bool:
    """Return whether a tool has no asynchronous function."""
    from langchain_core.tools import BaseTool, StructuredTool, Tool

    if isinstance(tool, StructuredTool | Tool):
        return tool.coroutine is None
    return type(tool)._arun is BaseTool._arun


@cache
def _recorded_class(kind: type[BaseTool], plain: bool) -> type[BaseTool]:
    from langchain_core.tools import BaseTool

    function = kind._run if plain else kind._arun
    invoke: Any = BaseTool.ainvoke if plain else kind.ainvoke

    async def ainvoke(self: Any, input: Any, config: Any = None, **options: Any) -> Any:  # noqa: A002
        if RECORDER.get() is None or not _is_call(input):
            return await kind.ainvoke(self, input, config, **options)
        arguments = {name: value for name, value in input["args"].items() if name in self.args}
        token = _INVOCATION.set(_Invocation(input["id"], arguments))
        try:
            return await invoke(self, input, config, **options)
        finally:
            _INVOCATION.reset(token)

    @wraps(function)  # LangChain looks at the signature
    async def arun(self: Any, *args: Any, **options: Any) -> Any:
        recorder, invocation = RECORDER.get(), _INVOCATION.get()
        if recorder is None or invocation is None:
            return await kind._arun(self, *args, **options)
        _INVOCATION.set(None)  # a tool that it calls is not this call
        value: Callable[[Any], Any] = partial(result_of, call_id=invocation.call_id)
        if self.response_format == "content_and_artifact":
            value = partial(_content_of, call_id=invocation.call_id)
        if not plain:
            work = partial(kind._arun, self, *args, **options)
            return await recorder.run(invocation.call_id, invocation.arguments, work, value)
        if "run_manager" in options:
            options["run_manager"] = options["run_manager"].get_sync()
        blocking = partial(kind._run, self, *args, **options)
        return await recorder.run_in_thread(invocation.call_id, invocation.arguments, blocking, value)

    members = {"ainvoke": ainvoke, "_arun": arun, _TOOLS: True, "__module__": kind.__module__}
    metaclass: Any = type(kind)
    return cast("type[BaseTool]", metaclass(kind.__name__, (kind,), members))


def _is_call(given: Any) -> bool:
    return isinstance(given, Mapping) and given.get("type") == "tool_call" and bool(given.get("id"))


def _content_of(result: Any, call_id: str) -> Any:
    return result_of(result[0] if isinstance(result, tuple) and result else result, call_id)


def result_of(result: Any, call_id: str) -> Any:
    """Return the part of a tool's result that the model gets.

    Args:
        result: What the tool returned: a value, a `ToolMessage`, or a `Command` that contains one.
        call_id: The call.
    """
    from langchain_core.messages import ToolMessage
    from langgraph.types import Command

    if isinstance(result, ToolMessage):
        return result.content if isinstance(result.content, str) else str(result.text) or result.content
    if isinstance(result, Command):
        update = result.update if isinstance(result.update, Mapping) else {}
        for message in update.get("messages") or ():
            if isinstance(message, ToolMessage) and message.tool_call_id == call_id:
                return result_of(message, call_id)
        return None
    return result


def gate(recorder: ToolRecorder) -> BaseCallbackHandler:
    """Return a handler that lets no tool begin after the turn, in any thread."""
    return cast("BaseCallbackHandler", _gate_class()(recorder))


@cache
def _gate_class() -> Any:
    from langchain_core.callbacks import BaseCallbackHandler

    class Gate(BaseCallbackHandler):
        raise_error = True
        run_inline = True

        def __init__(self, recorder: ToolRecorder) -> None:
            self._turn = recorder.turn

        def on_tool_start(self, *args: Any, **options: Any) -> None:
            if self._turn.reason is not None:
                raise RuntimeError("the turn has ended")

    return Gate
