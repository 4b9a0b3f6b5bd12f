"""Conversations with a tool-calling agent in memory, and its model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bargein_protocol import (
    ToolResult,
    TurnEnded,
)
from bargein_server.hosting.registry import SessionRegistry
from memory_client import Line
from scripted_model import Model, check_messages, say
from waiting import until

Serve = Callable[..., "Conversation"]


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class Conversation:
    """Session in memory with a tool-calling agent, and the model behind it."""

    def __init__(self, sessions: SessionRegistry, model: Model) -> None:
        self.sessions = sessions
        self.model = model
        self.line = Line(sessions)

    async def ask(self, text: str = "go", *, virtual: bool = False) -> list[Any]:
        """Ask; return the events of the whole turn."""
        start = len(self.line.events)
        ends = len(self.line.ends())
        self.line.ask(text)
        if virtual:  # the SDK prepares its first request in a thread, while virtual time would fly
            await until(lambda: self.model.requests, "the first request")
        while virtual and len(self.line.ends()) == ends:
            await asyncio.sleep(1)
        await until(lambda: len(self.line.ends()) > ends, "the turn's end")
        return self.line.events[start:]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.line.events if isinstance(event, kind)]

    @property
    def end(self) -> TurnEnded:
        return self.line.ends()[-1]

    @property
    def result(self) -> ToolResult:
        [result] = self.of(ToolResult)
        assert isinstance(result, ToolResult)
        return result


async def tool_results(talk: Conversation) -> list[str]:
    """Return the results of tools in the history, as the next model gets them."""
    talk.model.steps.append([say("Yes?")])
    talk.model.steps[len(talk.model.requests) :] = [[say("Yes?")]]
    await talk.ask()
    check_messages(talk.model.requests[-1]["messages"])
    return talk.model.results()
