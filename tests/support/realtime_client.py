"""A Realtime client of `openai`, whose every event is checked.

async with realtime(play) as talk:
    done = await talk.ask("hello")      # the response, after `response.done`
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter

from live_server import Serving, serving

_SCHEMA: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
_DELTAS = ("response.output_text.delta", "response.output_audio_transcript.delta")


class Responses:
    """Rules of responses: everything announced is closed once, and nothing follows the end."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._open: dict[str, dict[str, Any]] = {}
        self._closed: dict[str, list[str]] = {}
        self._parts: dict[str, str] = {}

    def check(self, event: dict[str, Any]) -> None:
        """Take the next event."""
        _SCHEMA.validate_python(event)
        assert event["event_id"] not in self._seen
        self._seen.add(event["event_id"])
        kind = event["type"]
        if kind == "response.created":
            response = event["response"]
            assert response["status"] == "in_progress"
            assert response["output"] == []
            self._open[response["id"]] = {}
            self._closed[response["id"]] = []
        elif kind == "response.done":
            self._end(event["response"])
        elif kind.startswith("response."):
            self._check_part(kind, event)
        elif kind in ("conversation.item.added", "conversation.item.done"):
            assert "previous_item_id" in event

    def _check_part(self, kind: str, event: dict[str, Any]) -> None:
        opened = self._open[event["response_id"]]
        if kind == "response.output_item.added":
            item = event["item"]
            assert event["output_index"] == len(opened)
            assert not [each for each in opened if each not in self._closed[event["response_id"]]]
            opened[item["id"]] = item
        elif kind == "response.output_item.done":
            assert event["item"]["id"] == list(opened)[event["output_index"]]
            self._closed[event["response_id"]].append(event["item"]["id"])
            opened[event["item"]["id"]] = event["item"]
        else:
            assert list(opened)[event["output_index"]] == event["item_id"]
            assert event["item_id"] not in self._closed[event["response_id"]]
            if kind in _DELTAS:
                self._parts[event["item_id"]] = self._parts.get(event["item_id"], "") + event["delta"]
            elif kind == "response.content_part.done":
                part = event["part"]
                assert (part.get("text") or part.get("transcript")) == self._parts[event["item_id"]]

    def _end(self, response: dict[str, Any]) -> None:
        opened = self._open.pop(response["id"])
        assert self._closed.pop(response["id"]) == list(opened)
        assert response["output"] == list(opened.values())
        assert response["status"] != "in_progress"
        status = "completed" if response["status"] == "completed" else "incomplete"
        for item in response["output"][-1:]:
            if item["type"] == "message":
                assert item["status"] == status

    @property
    def none_open(self) -> bool:
        """Whether every response has ended."""
        return not self._open


class Talk:
    """A conversation."""

    def __init__(self, connection: AsyncRealtimeConnection, server: Serving) -> None:
        self.connection = connection
        self.server = server
        self.events: list[dict[str, Any]] = []
        self.responses = Responses()

    async def next(self) -> dict[str, Any]:
        """Return the next event, which is valid."""
        async with asyncio.timeout(10):
            event = (await self.connection.recv()).to_dict()
        self.responses.check(event)
        self.events.append(event)
        return event

    async def until(self, kind: str) -> dict[str, Any]:
        """Return the next event of a type."""
        while (event := await self.next())["type"] != kind:
            pass
        return event

    async def say(self, text: str, role: str = "user", **fields: Any) -> dict[str, Any]:
        """Create a message; return the item."""
        part = {"type": "output_text" if role == "assistant" else "input_text", "text": text}
        item: Any = {"type": "message", "role": role, "content": [part]}
        await self.connection.conversation.item.create(item=item, **fields)
        return dict((await self.until("conversation.item.done"))["item"])

    async def respond(self, **options: Any) -> dict[str, Any]:
        """Ask for a response; return it when it is done."""
        response: Any = options
        await self.connection.response.create(**({"response": response} if options else {}))
        return dict((await self.until("response.done"))["response"])

    async def ask(self, text: str) -> dict[str, Any]:
        """Say a text and return the response when it is done."""
        await self.say(text)
        return await self.respond()

    async def answer(self, call: dict[str, Any], output: str) -> None:
        """Send the output of a function call."""
        item: Any = {"type": "function_call_output", "call_id": call["call_id"], "output": output}
        await self.connection.conversation.item.create(item=item)

    async def error(self) -> dict[str, Any]:
        """Return the next error."""
        return dict((await self.until("error"))["error"])


def text_of(response: dict[str, Any]) -> str:
    """Return the text of a response's messages."""
    return "".join(
        part.get("text") or part.get("transcript") or ""
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
    )


@asynccontextmanager
async def talking(server: Serving, key: str = "none", **query: str) -> AsyncIterator[Talk]:
    """Connect a client of `openai` to a server, and read `session.created`."""
    base = f"127.0.0.1:{server.port}/v1"
    async with (
        AsyncOpenAI(api_key=key, base_url=f"http://{base}", websocket_base_url=f"ws://{base}") as client,
        client.realtime.connect(model="m", extra_query=query) as connection,
    ):
        talk = Talk(connection, server)
        assert (await talk.next())["type"] == "session.created"
        yield talk


@asynccontextmanager
async def realtime(agent: Any, **options: Any) -> AsyncIterator[Talk]:
    """Serve an agent, and talk to it; at the end no response is open."""
    async with serving(agent, doors=["realtime"], **options) as server, talking(server) as talk:
        yield talk
        assert talk.responses.none_open
