"""LangChain's messages and chunks as outputs of this server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bargein_protocol import StepEnded, Thought
from bargein_server.agent import Output, Turn

from ..agents.model_fields import slices
from .langchain_tools import result_of
from .messages import require
from .tool_recorder import RECORDER, ToolRecorder
from .written_call import FinalTool

if TYPE_CHECKING:
    from langchain_core.messages import AIMessage, BaseMessage


class LangChainReader:
    """Reader of the messages of one turn.

    Args:
        recorder: The turn's tool calls.
    """

    def __init__(self, recorder: ToolRecorder) -> None:
        self._recorder = recorder
        self._steps = 0

    def read(self, message: BaseMessage, *, with_text: bool = True) -> Iterator[Output]:
        """Yield the outputs of a message, or of a chunk of one.

        Text, thoughts, names and arguments of tool calls, results, and usage are read; other messages than
        those of models and tools have no outputs.

        Args:
            message: The message.
            with_text: Whether its text is a part of the answer.
        """
        from langchain_core.messages import AIMessage, ToolMessage

        if isinstance(message, ToolMessage):
            error = str(message.text) if message.status == "error" else None
            yield from self._recorder.add_result(message.tool_call_id, result_of(message, ""), error)
        elif isinstance(message, AIMessage):
            yield from self._read_answer(message, with_text)

    def step_ended(self, kind: str = "") -> StepEnded:
        """Return the end of a step, counted from 0."""
        index, self._steps = self._steps, self._steps + 1
        return StepEnded(index=index, kind=kind)

    def close(self) -> None:
        """Record the failures of tools that were not tried again."""
        self._recorder.close()

    def _read_answer(self, message: AIMessage, with_text: bool) -> Iterator[Output]:
        from langchain_core.messages import AIMessageChunk

        if isinstance(message.content, list) or "reasoning_content" in message.additional_kwargs:
            for block in message.content_blocks:
                if block["type"] == "reasoning":
                    for thought in slices(str(block.get("reasoning") or "")):
                        yield Thought(text=thought)
        if with_text and (text := str(message.text)):
            yield text
        if isinstance(message, AIMessageChunk):
            for chunk in message.tool_call_chunks:
                # Only the first piece of a call has its id; the others have its index.
                stream = (message.id, chunk["index"] if chunk["index"] is not None else chunk["id"])
                if name := chunk["name"]:
                    yield from self._recorder.add_name(stream, chunk["id"], name)
                yield from self._recorder.add_arguments(stream, chunk["args"] or "")
            if message.chunk_position == "last":
                yield from self._recorder.end_name()
        else:
            for call in message.tool_calls:
                yield from self._recorder.add_call(call["id"], call["name"], call["args"])
        if usage := message.usage_metadata:
            self._recorder.turn.add_usage(usage["input_tokens"], usage["output_tokens"])


def langchain_reader(turn: Turn, *, final_tool: FinalTool | None = None) -> LangChainReader:
    """Return a reader for a loop of one's own over a model of LangChain.

        reader = langchain_reader(turn, final_tool=("final_answer", "answer"))
        async for chunk in model.bind_tools(tools).astream(langchain_messages(turn.history.messages())):
            for output in reader.read(chunk):
                yield output

    Tools that were made with `recorded_tool`, and are called with `ainvoke(tool_call)` in the turn's context
    from now on, record their calls: none begins after the turn's end, not even in a task that outlives it.

    Args:
        turn: The turn.
        final_tool: The tool whose call is the answer, and the field with the text.

    Raises:
        NotInstalled: `langchain-core` is not installed.
    """
    require("langchain_core", "langchain-core", "langchain_reader")
    recorder = ToolRecorder(turn, final_tool)
    RECORDER.set(recorder)
    return LangChainReader(recorder)
