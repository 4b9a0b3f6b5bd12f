"""Agent as LangChain courses write it: an executor, and a queue to read.

    bargein-server bargein_server.examples.course:assistant

It needs `langchain-openai`, and a model that calls tools: `OPENAI_API_KEY`, and `OPENAI_MODEL` or
`OPENAI_BASE_URL`. The model must call a tool in each step. `final_answer` is a tool too: its field `answer`
is what the user reads.

Courses stream by a callback handler that puts chunks into a queue, while the executor runs in a task of its
own. Six lines differ from a course's code; each has a comment that begins with `bargein`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from bargein_server.agent import Output, Turn

from ..frameworks import langchain_messages, langchain_reader, recorded_tool

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage
    from langchain_core.tools import BaseTool

PROMPT = (
    "You are a helpful assistant. Use your tools to find the answer, several at a time if you can, and answer"
    " with the tool final_answer."
)
STEP_END, DONE = "<<STEP_END>>", "<<DONE>>"


async def add(x: float, y: float) -> float:
    """Add x and y."""
    return x + y


async def multiply(x: float, y: float) -> float:
    """Multiply x by y."""
    return x * y


async def exponentiate(x: float, y: float) -> float:
    """Raise x to the power of y."""
    return float(x**y)


async def final_answer(answer: str, tools_used: list[str]) -> dict[str, Any]:
    """Give the final answer to the user, with the names of the tools used."""
    return {"answer": answer, "tools_used": tools_used}


FUNCTIONS: list[Any] = [add, multiply, exponentiate, final_answer]


@cache
def tools() -> dict[str, BaseTool]:
    """Return the tools by name."""
    from langchain_core.tools import tool

    # bargein: recorded, so that no tool begins after an interrupt and no result is forgotten.
    return {function.__name__: recorded_tool(tool(function)) for function in FUNCTIONS}


@cache
def queue_handler() -> Any:
    """Return the class of the callback handler, with a late import."""
    from langchain_core.callbacks import AsyncCallbackHandler

    class QueueCallbackHandler(AsyncCallbackHandler):
        """Handler whose iterator yields a model's chunks outside the executor."""

        def __init__(self, queue: asyncio.Queue[Any]) -> None:
            self.queue = queue
            self.final_answer_seen = False

        async def __aiter__(self) -> AsyncIterator[Any]:
            while (token := await self.queue.get()) != DONE:
                yield token

        async def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
            if chunk is not None:
                names = [piece["name"] for piece in chunk.message.tool_call_chunks]
                self.final_answer_seen = self.final_answer_seen or "final_answer" in names
                self.queue.put_nowait(chunk)

        async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            self.queue.put_nowait(DONE if self.final_answer_seen else STEP_END)

        async def on_llm_error(self, *args: Any, **kwargs: Any) -> None:
            self.queue.put_nowait(DONE)

    return QueueCallbackHandler


class CustomAgentExecutor:
    """Executor with a loop of its own.

    Args:
        llm: The chat model.
        max_iterations: Maximum number of calls of the model.
    """

    def __init__(self, llm: Any, max_iterations: int = 5) -> None:
        self.max_iterations = max_iterations
        self.agent = llm.bind_tools(list(tools().values()), tool_choice="any")

    async def invoke(self, messages: Sequence[BaseMessage], streamer: Any) -> str:
        """Answer the last of the messages; the chunks go to the streamer."""
        from langchain_core.messages import SystemMessage

        agent_scratchpad: list[BaseMessage] = []
        for _ in range(self.max_iterations):
            prompt = [SystemMessage(PROMPT), *messages, *agent_scratchpad]
            response: Any = None
            async for chunk in self.agent.astream(prompt, config={"callbacks": [streamer]}):
                response = chunk if response is None else response + chunk
            agent_scratchpad.append(response)
            # bargein: tools are called with the whole call, whose id is its name in the history.
            observations = await asyncio.gather(
                *[tools()[call["name"]].ainvoke(call) for call in response.tool_calls]
            )
            agent_scratchpad.extend(observations)
            for call in response.tool_calls:
                if call["name"] == "final_answer":
                    return str(call["args"]["answer"])
        streamer.queue.put_nowait(DONE)
        return "No answer found"


def chat_model(turn: Turn) -> Any:
    """Return the chat model."""
    from langchain_openai import ChatOpenAI

    # bargein: this client closes the model's stream at an interrupt, whichever task reads from it.
    return ChatOpenAI(
        model=os.environ.get("OPENAI_MODEL", "gpt-5-mini"), http_async_client=turn.http_client()
    )


async def assistant(turn: Turn) -> AsyncGenerator[Output, None]:
    """Answer with tools; the answer is a field of the last call's arguments."""
    # bargein: the history comes from the server, which knows what the user has heard.
    messages = langchain_messages(turn.history.messages())
    reader = langchain_reader(turn, final_tool=("final_answer", "answer"))
    streamer = queue_handler()(asyncio.Queue())
    task = asyncio.create_task(CustomAgentExecutor(chat_model(turn)).invoke(messages, streamer))
    # bargein: an executor that fails ends the answer at once, and `await task` raises its error.
    task.add_done_callback(lambda _: streamer.queue.put_nowait(DONE))
    try:
        async for token in streamer:
            if token == STEP_END:
                yield reader.step_ended("tools")
            else:
                for output in reader.read(token.message):
                    yield output
        await task
    finally:
        # bargein: a task that waits for nothing more than a tool of its own ends with the turn.
        task.cancel()
