"""The interruption contract through every door, by one table of cases.

A door's way to interrupt differs, and so does the end that it can express; the clauses are the same.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import pytest

from bargein_server import Output, Turn
from door_agent import play
from live_server import Serving, WireKind, serving
from sse_client import Http, http
from valid_history import check_valid
from waiting import WAIT_S, until

ID = "5f0c8c5e-8f0f-4b0e-9d3c-2a8f2f1d7a55"
DOORS = ("chat", "ai-sdk", "ag-ui")
END = {"chat": "[DONE]", "ai-sdk": "[DONE]", "ag-ui": "RUN_FINISHED"}


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

    async def read(self, lines: AsyncIterator[str]) -> None:
        """Read a stream to its end."""
        async for line in lines:
            if line == "data: [DONE]":
                self.done += 1
            elif line.startswith("data: "):
                assert not self.done, "an event after the end"
                event = json.loads(line.removeprefix("data: "))
                self.events.append(event)
                self.text += text_of(event)
        self.over = True


def text_of(event: dict[str, Any]) -> str:
    """Return the text in an event of any door."""
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return str(event["delta"]) if event.get("type") in ("text-delta", "TEXT_MESSAGE_CONTENT") else ""


class Client:
    """A client of one door, with one conversation."""

    def __init__(self, door: str, server: Serving, plain: Http) -> None:
        self.door = door
        self.server = server
        self.plain = plain
        self.messages: list[dict[str, Any]] = []

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

    async def interrupt(self) -> None:
        """Interrupt in the way of the door, beside closing the request."""
        if self.door == "ai-sdk":
            await self.plain.post(f"/api/chat/{ID}/stop", {})

    @property
    def busy(self) -> bool:
        """Whether a turn runs."""
        return any(host.core.busy for host in self.server.sessions)


@asynccontextmanager
async def talking(door: str, wire: WireKind = "transport", agent: Any = play) -> AsyncIterator[Client]:
    """Serve an agent, and return a client of a door."""
    async with serving(agent, wire, doors=[door]) as server, http(server) as plain:
        yield Client(door, server, plain)


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> str:
    """Return the name of a door."""
    return str(request.param)


@pytest.mark.parametrize("wire", ["transport", "asgi"])
async def test_one_end(door: str, wire: WireKind) -> None:
    """Clause 1: a turn has one end, under bargein's server and another one."""
    async with talking(door, wire) as client:
        reader = await client.ask("hello")
        assert reader.text == "You said hello."
        ends = [each for each in reader.events if each.get("type") in ("finish", "RUN_FINISHED", "abort")]
        assert reader.done + len(ends) == {"chat": 1, "ai-sdk": 2, "ag-ui": 1}[door]


async def test_the_fence_and_silence(door: str) -> None:
    """Clauses 2 and 3: an interrupted turn is over within a second, and writes nothing afterwards."""
    async with talking(door) as client:
        async with client.asked("count") as reader:
            await until(lambda: "5" in reader.text, "some output")
            began = perf_counter()
            await client.interrupt()
            if door == "ai-sdk":
                await until(lambda: reader.over, "the end")
        await until(lambda: not client.busy, "the end of the turn")
        assert perf_counter() - began < 1
        [host] = list(client.server.sessions)
        last = host.core.side_channel.cursor.seq
        await asyncio.sleep(0.05)
        assert host.core.side_channel.cursor.seq == last


async def test_a_newer_message_ends_the_older_turn(door: str) -> None:
    """Clauses 1 and 4: the older stream gets the end of its own turn, within a second."""
    async with talking(door) as client:
        async with client.asked("count") as older:
            await until(lambda: "5" in older.text, "some output")
            began = perf_counter()
            newer = Client(door, client.server, client.plain)
            newer.messages = [client.messages[0], {"id": "a", "role": "assistant", "content": older.text}]
            assert (await newer.ask("hello")).text == "You said hello."
            await until(lambda: older.over, "the end of the older stream")
            assert perf_counter() - began < 1
        assert not any("hello" in json.dumps(event) for event in older.events)


async def test_true_history(door: str) -> None:
    """Clause 7: the next turn has what the client read, marked as interrupted."""
    async with talking(door) as client:
        async with client.asked("count") as reader:
            await until(lambda: "5" in reader.text, "some output")
            await client.interrupt()
        await until(lambda: not client.busy, "the end of the turn")
        [asked, cut] = await client.history()
        assert asked == {"role": "user", "content": "count"}
        heard = cut["content"].removesuffix(" [interrupted]")
        assert heard.startswith(reader.text.strip())
        assert len(heard) - len(reader.text) < 40


async def test_valid_history(door: str) -> None:
    """Clause 8: every call has one result, also when its turn was cut while the client was asked."""
    async with talking(door) as client:
        await client.ask("look")
        await client.ask("buy")
        await client.ask("locate")
        history = await client.history()
        calls = [call["id"] for message in history for call in message.get("tool_calls", ())]
        results = [message["tool_call_id"] for message in history if message["role"] == "tool"]
        assert calls == results
        assert len(calls) == 3


async def test_protected_sections(door: str) -> None:
    """Clause 9: a section is written to its end, whichever way the client interrupts."""
    async with talking(door) as client:
        async with client.asked("section") as reader:
            await until(lambda: "This" in reader.text, "the section")
            await client.interrupt()
        await until(lambda: not client.busy, "the end of the section")
        [host] = list(client.server.sessions)
        turn = host.core.outside.turns()[0]
        assert str(turn.fold.main_lane.text) == "This is legal."


async def test_a_lost_line(door: str) -> None:
    """Clause 11: where the protocol can resume, a lost request is no interrupt; elsewhere it is one."""
    async with talking(door) as client:
        async with client.asked("count") as reader:
            await until(lambda: "5" in reader.text, "some output")
        if door != "ai-sdk":
            await until(lambda: not client.busy, "the interrupt")
            return
        await asyncio.sleep(0.05)
        assert client.busy
        again = Reader()
        async with client.plain.client.stream(
            "GET", f"{client.plain.base}/api/chat/{ID}/stream", timeout=WAIT_S
        ) as response:
            task = asyncio.create_task(again.read(response.aiter_lines()))
            await until(lambda: len(again.text) > len(reader.text) + 10, "the rest")
            assert again.text.startswith(reader.text)
            await client.interrupt()
            await task
        assert again.events[-1]["type"] == "abort"


async def test_always_reading(door: str) -> None:
    """Clause 12: an agent that never suspends delays no interrupt."""

    async def flat(turn: Turn) -> AsyncIterator[Output]:
        while True:
            yield "word "

    async with talking(door, agent=flat) as client:
        async with client.asked("go") as reader:
            await until(lambda: reader.text, "some output")
            await client.interrupt()
        await until(lambda: not client.busy, "the end of the turn")


async def test_no_residue(door: str) -> None:
    """Clause 13: after many interrupts nothing is left of the streams."""
    async with talking(door) as client:
        for _ in range(20):
            async with client.asked("count") as reader:
                await until(lambda: "2" in reader.text, "some output")
                await client.interrupt()
            await until(lambda: not client.busy, "the end of the turn")
        [host] = list(client.server.sessions)
        await until(lambda: not client.server.sessions.streams, "no stream")
        assert not host.followers
        assert host.connection is None
        await until(lambda: not host.tasks(), "no task")


async def test_a_section_of_a_single_request_is_not_cut() -> None:
    """Its session stays for that long, although nobody can come back to it."""
    async with serving(play, doors=["chat"]) as server, http(server) as plain:
        body = {"stream": True, "messages": [{"role": "user", "content": "section"}]}
        async with plain.client.stream("POST", plain.base + "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if "This" in line:
                    break
        [host] = list(server.sessions)
        await until(lambda: not host.core.busy, "the end of the section")
        [turn] = host.core.outside.turns()
        assert str(turn.fold.main_lane.text) == "This is legal."
        assert turn.fold.ended is not None
        assert turn.fold.ended.status == "interrupted"
