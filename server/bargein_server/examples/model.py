"""Model behind the examples: yours, or a small local one.

    OPENAI_MODEL, with OPENAI_API_KEY or OPENAI_BASE_URL    any server with the chat completions API
    neither of the last two                                 the local model, if it is installed

    answer = Model("Answer in one sentence.")

    @with_model
    async def agent(turn: Turn):
        async for output in answer(turn):                   # the conversation
            yield output
        async for output in answer.aside(turn, [...]):      # a call that is no part of it
            yield output

Without a model the server does not start, and says what is missing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from bargein_server.agent import Agent, AgentNotStarted, History, Message, Output, Turn
from bargein_server.agents.tools import Tool

MISSING = (
    "this example needs a model: set OPENAI_MODEL, and OPENAI_API_KEY or OPENAI_BASE_URL, "
    "or install the small local one"
)


class Place:
    """Address of the model: the environment's, or our own shared process.

    Attributes:
        arguments: Those of `OpenAIAgent` that lead to the model; None before the start.
    """

    def __init__(self) -> None:
        self.arguments: dict[str, Any] | None = None
        self._local: Any = None
        self._starting = asyncio.Lock()

    async def startup(self) -> dict[str, Any]:
        """Start the model unless it runs; return the arguments that lead to it.

        Raises:
            AgentNotStarted: There is no model.
        """
        async with self._starting:
            if self.arguments is None or (self._local is not None and self._local.pid is None):
                self.arguments = _of_environment() or await self._start_local()
                # It takes a second, in which a turn could not be interrupted.
                import_module("bargein_server.agents.chat_completions")
            return self.arguments

    async def shutdown(self) -> None:
        """End the local model, if it runs."""
        local, self._local, self.arguments = self._local, None, None
        self._starting = asyncio.Lock()  # the next start may be on another event loop
        if local is not None:
            await local.__aexit__()

    async def _start_local(self) -> dict[str, Any]:
        try:
            from bargein_server.agents.local import MODEL, LocalModel, LocalModelError
        except ImportError as error:
            raise AgentNotStarted(f'{MISSING}: pip install "bargein[local]"') from error
        self._local = self._local or LocalModel()
        try:
            await self._local.__aenter__()
        except LocalModelError as error:
            raise AgentNotStarted(f"{MISSING}: {error}") from error
        return {
            "model": MODEL,
            "base_url": self._local.base_url,
            "api_key": "none",
            "history_tokens": 1200,
            "max_tokens": 400,
        }


def _of_environment() -> dict[str, Any] | None:
    """Return `OpenAIAgent`'s arguments from the environment; None without."""
    url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY")
    if not url and not key:
        return None
    if not os.environ.get("OPENAI_MODEL"):
        raise AgentNotStarted("this example needs the name of a model: set OPENAI_MODEL")
    if find_spec("openai") is None:
        raise AgentNotStarted('this example needs openai: pip install "bargein[openai]"')
    return {"model": os.environ["OPENAI_MODEL"], "base_url": url, "api_key": key}


place: Place = Place()


class Model:
    """Agent with the model of the environment.

    Args:
        instructions: The system prompt.
        tools: Tools for the model.
        options: Further arguments of `OpenAIAgent`, such as `temperature`.
    """

    def __init__(
        self, instructions: str, tools: Iterable[Tool | Callable[..., Any]] = (), **options: Any
    ) -> None:
        self._arguments = {"instructions": instructions, "tools": list(tools), **options}
        self._place: dict[str, Any] | None = None
        self._agent: Agent | None = None

    async def startup(self) -> None:
        """Start the model, or raise `AgentNotStarted`."""
        await place.startup()

    async def shutdown(self) -> None:
        """End the model, if it is a process of ours."""
        await place.shutdown()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Answer the turn with the conversation so far."""
        where = await place.startup()
        if self._agent is None or where is not self._place:
            from bargein_server.agents.chat_completions import OpenAIAgent

            self._place, self._agent = where, OpenAIAgent(**{**self._arguments, **where})
        agent = self._agent
        async with aclosing(agent(turn)) as outputs:  # type: ignore[type-var]
            async for output in outputs:
                yield output

    def aside(self, turn: Turn, messages: list[Message]) -> AsyncGenerator[Output, None]:
        """Answer these messages, not the conversation, in the lane of `turn`."""
        other = turn.in_lane(turn.source)
        other.history = _Messages(messages)
        return self(other)

    async def text(self, turn: Turn, question: str) -> str:
        """Return the whole answer to a question outside of the conversation."""
        text = ""
        async with aclosing(self.aside(turn, [{"role": "user", "content": question}])) as outputs:
            async for output in outputs:
                text += output if isinstance(output, str) else ""
        return text.strip()


class _Messages(History):
    """A history that consists of given messages; the last one always stays."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    def messages(self, max_tokens: int | None = None, **options: Any) -> list[Message]:
        """Return the messages; drop old ones that a small model has no room for."""
        messages, room = list(self._messages), max_tokens
        while room is not None and len(messages) > 1 and len(str(messages)) // 3 > room:
            del messages[0]
        return messages


class with_model:  # noqa: N801 - used as a decorator
    """Agent whose model starts and ends with the server."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.__doc__ = agent.__doc__

    async def startup(self) -> None:
        """Start the model, or raise `AgentNotStarted`."""
        await place.startup()

    async def shutdown(self) -> None:
        """End the model, if it is a process of ours."""
        await place.shutdown()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Answer as the decorated agent does."""
        async with aclosing(self._agent(turn)) as outputs:  # type: ignore[type-var]
            async for output in outputs:
                yield output
