"""One client for every door, with one conversation.

async with talking("ai-sdk") as client:
    async with client.asked("count") as reader:
        await until(lambda: "5" in reader.text)
        await client.interrupt()
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from door_agent import play
from live_server import Serving, WireKind, serving
from sse_client import Http, http
from valid_history import check_valid
from waiting import until

ID = "5f0c8c5e-8f0f-4b0e-9d3c-2a8f2f1d7a55"
DOORS = ("chat", "ai-sdk", "ag-ui", "realtime")


class Reader:
    """A client's view of one turn.

    Attributes:
        text: The text so far.
        events: All events so far.
        over: Whether the stream has ended.
    """

    def __init__(self) -> None:
        self.text = ""
        self.events: list[dict[str, Any]] = []
        self.done = 0
        self.over = False

    def take(self, event: dict[str, Any]) -> None:
        """Take an event."""
        assert not self.done, "an event after the end"
        self.events.append(event)
        self.text += text_of(event)

    async def read(self, lines: AsyncIterator[str]) -> None:
        """Read a stream to its end."""
        async for line in lines:
            if line == "data: [DONE]":
                self.done += 1
            elif line.startswith("data: "):
                self.take(json.loads(line.removeprefix("data: ")))
        self.over = True


def text_of(event: dict[str, Any]) -> str:
    """Return the text in an event of any door."""
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return str(event["delta"]) if event.get("type") in _TEXTS else ""


_TEXTS = ("text-delta", "TEXT_MESSAGE_CONTENT", "response.output_text.delta")


class Client:
    """A client of one door, with one conversation.

    Attributes:
        messages: The conversation, as far as this client has it.
        headers: Headers of its responses.
    """

    def __init__(self, door: str, server: Serving, plain: Http) -> None:
        self.door = door
        self.server = server
        self.plain = plain
        self.messages: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}

    def _request(self) -> tuple[str, dict[str, Any], dict[str, str]]:
        if self.door == "chat":
            return (
                "/v1/chat/completions",
                {"stream": True, "messages": self.messages},
                {"X-Conversation-Id": ID},
            )
        if self.door == "ai-sdk":
            parts = [{**each, "parts": [{"type": "text", "text": each["content"]}]} for each in self.messages]
            return "/api/chat", {"id": ID, "messages": parts}, {}
        body = {"threadId": ID, "runId": "r", "protocolVersion": "1.0", "messages": self.messages}
        return "/v1/ag-ui", body, {}

    @asynccontextmanager
    async def asked(self, text: str) -> AsyncIterator[Reader]:
        """Send a message and read its answer beside the block, which may leave early."""
        self.messages.append({"id": f"m{len(self.messages)}", "role": "user", "content": text})
        path, body, headers = self._request()
        reader = Reader()
        async with self.plain.client.stream(
            "POST", self.plain.base + path, json=body, headers=headers
        ) as response:
            assert response.status_code == 200
            self.headers.update(response.headers)
            task = asyncio.create_task(reader.read(response.aiter_lines()))
            try:
                yield reader
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self.messages.append({"id": f"m{len(self.messages)}", "role": "assistant", "content": reader.text})

    async def ask(self, text: str) -> Reader:
        """Send a message and read its whole answer."""
        async with self.asked(text) as reader:
            await until(lambda: reader.over, "the end of the answer")
        return reader

    async def history(self) -> list[dict[str, Any]]:
        """Return the history that the agent has."""
        found: list[dict[str, Any]] = json.loads((await self.ask("recall")).text)
        check_valid([*found, {"role": "user", "content": "recall"}], "recall")
        return found

    async def interrupt(self, reader: Reader | None = None) -> None:
        """Interrupt in the way of the door, beside closing the request.

        Args:
            reader: The turn that is meant, whichever runs; None for the running one.
        """
        if self.door == "ai-sdk":
            query = "" if reader is None else f"?messageId={reader.events[0]['messageId']}"
            await self.plain.post(f"/api/chat/{ID}/stop{query}", {})

    async def lose(self) -> None:
        """Lose the line, where the client has one beside its requests."""

    @property
    def busy(self) -> bool:
        """Whether a turn runs."""
        return any(host.core.busy for host in self.server.sessions)


class RealtimeClient(Client):
    """A client of the Realtime door; its connection begins with its first question.

    Attributes:
        errors: The errors so far.
    """

    def __init__(self, door: str, server: Serving, plain: Http) -> None:
        super().__init__(door, server, plain)
        self.errors: list[dict[str, Any]] = []
        self._socket: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[Reader] = []
        self._reading: dict[str, Reader] = {}

    async def _connected(self) -> ClientConnection:
        if self._socket is None:
            url = f"ws://127.0.0.1:{self.server.port}/v1/realtime?conversation={ID}"
            self._socket = await connect(url)
            if self._socket.response is not None:
                self.headers.update(self._socket.response.headers.raw_items())
            self._task = asyncio.create_task(self._read(self._socket))
        return self._socket

    async def _read(self, socket: ClientConnection) -> None:
        try:
            async for frame in socket:
                event = json.loads(frame)
                kind = event["type"]
                if kind == "error":
                    self.errors.append(event["error"])
                if kind == "response.created":
                    self._reading[event["response"]["id"]] = self._waiting.pop(0)
                if kind.startswith("response."):
                    response_id = event.get("response_id") or event["response"]["id"]
                    reader = self._reading[response_id]
                    reader.take(event)
                    if kind == "response.done":
                        reader.done, reader.over = 1, True
        except ConnectionClosed:
            pass
        for reader in (*self._waiting, *self._reading.values()):
            reader.over = True

    async def send(self, *events: dict[str, Any]) -> None:
        """Send events."""
        socket = await self._connected()
        for event in events:
            await socket.send(json.dumps(event))

    @asynccontextmanager
    async def asked(self, text: str) -> AsyncIterator[Reader]:
        """Send a message and read its answer beside the block."""
        self.messages.append({"id": f"m{len(self.messages)}", "role": "user", "content": text})
        reader = Reader()
        self._waiting.append(reader)
        item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}
        await self.send({"type": "conversation.item.create", "item": item}, {"type": "response.create"})
        yield reader
        self.messages.append({"id": f"m{len(self.messages)}", "role": "assistant", "content": reader.text})

    async def interrupt(self, reader: Reader | None = None) -> None:
        """Cancel a response."""
        named = {} if reader is None else {"response_id": reader.events[0]["response"]["id"]}
        await self.send({"type": "response.cancel", **named})

    async def lose(self) -> None:
        """Close the connection; the next question opens another."""
        if self._socket is not None and self._task is not None:
            await self._socket.close()
            await self._task
        self._socket = None


def client_of(door: str, server: Serving, plain: Http) -> Client:
    """Return a client of a door."""
    return (RealtimeClient if door == "realtime" else Client)(door, server, plain)


@asynccontextmanager
async def talking(
    door: str, wire: WireKind = "transport", agent: Any = play, **options: Any
) -> AsyncIterator[Client]:
    """Serve an agent, and return a client of a door."""
    async with serving(agent, wire, doors=[door], **options) as server, http(server) as plain:
        client = client_of(door, server, plain)
        try:
            yield client
        finally:
            await client.lose()
