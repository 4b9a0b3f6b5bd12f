"""Rewinds beside other requests: in one packet, at a question, and from several doors at the same moment."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from door_agent import play
from live_server import RawClient, Serving, WireKind, serving
from sse_client import Http, http
from waiting import until

ID = "5f0c8c5e-8f0f-4b0e-9d3c-2a8f2f1d7a55"


async def begun(client: RawClient, text: str, kind: str) -> dict[str, Any]:
    """Ask, and return the first event of a kind."""
    await client.send({"type": "session.open"})
    await client.send({"type": "input.text", "id": "i1", "text": text})
    return await client.until(kind)


async def after(client: RawClient, turn_id: str) -> list[dict[str, Any]]:
    """Return the frames through the end of another turn, without output of that turn."""
    frames: list[dict[str, Any]] = []
    while True:
        frame = await client.receive()
        if frame["type"] != "text.delta":
            frames.append(frame)
        if frame["type"] == "turn.ended" and frame["turn_id"] != turn_id:
            return frames


async def test_a_rewind_with_an_interrupt_and_an_input_in_one_packet(wire: WireKind) -> None:
    """Each is answered once and in order; the next turn has nothing of the dropped one."""
    async with serving(play, wire) as server, server.connect() as client:
        turn_id = (await begun(client, "count", "text.delta"))["turn_id"]
        await client.send(
            {"type": "session.rewind", "id": "r1", "turn_id": turn_id},
            {"type": "interrupt", "id": "x1", "turn_id": turn_id},
            {"type": "input.text", "id": "i2", "text": "recall"},
            {"type": "session.rewind", "id": "r2", "turn_id": turn_id},
            {"type": "session.rewind", "id": "r1", "turn_id": turn_id},
            {"type": "session.rewind", "id": "r3", "turn_id": "before the beginning"},
        )
        frames = await after(client, turn_id)
        ended = [frame for frame in frames if frame["type"] == "turn.ended"]
        assert [(frame["status"], frame["reason"]) for frame in ended] == [
            ("interrupted", "rewound"),
            ("completed", "completed"),
        ]
        assert [f["outcome"] for f in frames if f["type"] == "interrupt.result"] == ["already_ended"]
        refused = [(f["ref_id"], f["code"]) for f in frames if f["type"] == "error"]
        assert refused == [("r2", "unknown_turn"), ("r3", "unknown_turn")]
        assert ended[-1]["heard"]["text"] == "[]"


async def test_a_rewind_while_a_question_waits(wire: WireKind) -> None:
    """A decision that comes after it allows nothing."""
    async with serving(play, wire) as server, server.connect() as client:
        asked = await begun(client, "buy tea", "tool.confirm")
        await client.send(
            {"type": "session.rewind", "id": "r1", "turn_id": asked["turn_id"]},
            {"type": "tool.decision", "call_id": asked["call_id"], "allow": True},
            {"type": "input.text", "id": "i2", "text": "recall"},
        )
        frames = await after(client, asked["turn_id"])
        kinds = [frame["type"] for frame in frames]
        assert "tool.running" not in kinds
        assert [frame["code"] for frame in frames if frame["type"] == "error"] == ["unknown_call"]
        assert frames[-1]["heard"]["text"] == "[]"


def said(*texts: str) -> list[dict[str, Any]]:
    """Return messages of the user and the assistant in turn."""
    return [
        {"id": f"m{n}", "role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)
    ]


def shown(*texts: str) -> dict[str, Any]:
    """Return a request of the AI SDK with these messages."""
    messages = [{**each, "parts": [{"type": "text", "text": each["content"]}]} for each in said(*texts)]
    return {"id": ID, "messages": messages}


async def stream(server: Serving, plain: Http, answer: str) -> list[asyncio.Task[Any]]:
    """Begin a long answer by the AI SDK, follow it by its resumed stream, and return both."""
    asking = asyncio.create_task(plain.post("/api/chat", shown("look", answer, "count")))
    await until(lambda: any(host.core.busy for host in server.sessions), "a turn")
    following = asyncio.create_task(plain.request("GET", f"/api/chat/{ID}/stream"))
    await until(lambda: len(server.sessions.streams) == 2, "both streams")
    return [asking, following]


async def test_requests_that_drop_the_same_turn_at_once(wire: WireKind) -> None:
    """One conversation is left, each request has its end, and those who read the dropped turn are told."""
    async with serving(play, wire, doors=["chat", "ai-sdk", "ag-ui"]) as server, http(server) as plain:
        first = await plain.post(
            "/v1/chat/completions", {"messages": said("look")}, {"X-Conversation-Id": ID}
        )
        answer = first.json()["choices"][0]["message"]["content"]
        readers = await stream(server, plain, answer)
        answers = await asyncio.gather(
            *(plain.post("/api/chat", shown("look", answer, text)) for text in ("hello", "recall", "hello"))
        )
        assert [each.status_code for each in answers] == [200, 200, 200]
        for reader in readers:
            assert '{"type":"abort","reason":"rewound"}' in (await reader).text
        [host] = server.sessions
        assert not host.core.busy
        texts = [turn.input.text for turn in host.core.outside.turns()]
        assert texts in (["look", "recall"], ["look", "hello"])
        run = {"threadId": ID, "runId": "r", "messages": said("look", "x", "recall")}
        last = await plain.post("/v1/ag-ui", run)
        history = [json.loads(line[6:]) for line in last.text.split("\n\n") if "TEXT_MESSAGE_CONTENT" in line]
        messages = json.loads("".join(each["delta"] for each in history))
        assert [each["content"] for each in messages if each["role"] == "user"] == texts
