"""Conversation with an example on a real server, and with the model behind it.

    async with talking(agent, upstream) as talk:
        await talk.ask("hello")
        await talk.answer(say("Hi."))
        ended = await talk.ended()

Every request to the model is checked as the API of chat completions checks it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from bargein_server import Agent
from live_server import Frame, RawClient, Serving, ask, serving
from model_server import Call, Upstream
from scripted_model import Model, Part, check_messages


class Talk:
    """A client of an example.

    Attributes:
        server: The server.
        client: The client, with all frames so far.
    """

    def __init__(self, server: Serving, client: RawClient, upstream: Upstream) -> None:
        self.server = server
        self.client = client
        self._upstream = upstream
        self._ids = count(1)
        self._turn = ""

    async def ask(self, text: str, **fields: Any) -> str:
        """Send an input; return the id of its turn."""
        self._turn = await ask(self.client, text, f"i{next(self._ids)}", **fields)
        return self._turn

    async def call(self) -> Call:
        """Return the next request to the model."""
        call = await self._upstream.call()
        check_messages(call.body["messages"])
        return call

    async def answer(self, *parts: Part) -> list[dict[str, Any]]:
        """Answer the next request to the model; return its messages."""
        call = await self.call()
        Model(parts)(call)
        return list(call.body["messages"])

    async def interrupt(self, **fields: Any) -> Frame:
        """Interrupt the turn; return the answer."""
        await self.client.send(
            {"type": "interrupt", "id": f"x{next(self._ids)}", "turn_id": self._turn, **fields}
        )
        return await self.client.until("interrupt.result")

    async def ended(self) -> Frame:
        """Return the end of the turn, which is the last frame of it."""
        return await self.client.until("turn.ended", turn_id=self._turn)

    async def decide(self, allow: bool) -> None:
        """Wait for a question of consent, and answer it."""
        asked = await self.client.until("tool.confirm")
        await self.client.send({"type": "tool.decision", "call_id": asked["call_id"], "allow": allow})

    async def text(self, part: str, source: str = "") -> None:
        """Wait until an answer contains a text."""
        while part not in self.said(source):
            await self.client.receive()

    def said(self, source: str = "") -> str:
        """Return the text of the current turn in a lane."""
        return "".join(frame["text"] for frame in self.of("text.delta") if frame.get("source", "") == source)

    def of(self, kind: str) -> list[Frame]:
        """Return the frames of a type in the current turn."""
        return [
            frame
            for frame in self.client.frames
            if frame["type"] == kind and frame.get("turn_id") == self._turn
        ]

    def data(self, name: str) -> list[Any]:
        """Return the values of the application's own events in the current turn."""
        return [frame["value"] for frame in self.of("data") if frame["name"] == name]


@asynccontextmanager
async def talking(agent: Agent, upstream: Upstream, **settings: Any) -> AsyncIterator[Talk]:
    """Serve an example and connect a client to it."""
    async with serving(agent, **settings) as server, server.connect() as client:
        yield Talk(server, client, upstream)
