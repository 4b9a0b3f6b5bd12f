"""The main job on real input: a real model, a real socket, a barge-in in mid-sentence.

Once with a client that knows only the protocol's text, once with the Python client.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest

from bargein_client import connect
from bargein_protocol import TextDelta
from bargein_server.agents.local import LocalAgent
from live_server import Serving, ask, serving
from llama_metrics import Gauge

STORY = "Tell me a very long story about a king, a river and a clock."
pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


@asynccontextmanager
async def local_model() -> AsyncIterator[tuple[Serving, Gauge, list[Any]]]:
    """Serve the local model; yields what it says of itself and the messages of every request to it."""
    requests: list[Any] = []

    async def record(request: httpx2.Request) -> None:
        requests.append(json.loads(request.content)["messages"])

    agent = LocalAgent(temperature=0, reply_tokens=200)
    async with serving(agent) as server:
        server.sessions.http_client().event_hooks["request"] = [record]
        yield server, Gauge(agent), requests


async def test_a_barge_in_by_a_client_made_from_the_text_of_the_protocol() -> None:
    """The cut stops the model; the next request holds the heard part, marked, and nothing more."""
    async with local_model() as (server, gauge, requests), server.connect() as client:
        await ask(client, STORY, "uncut")
        await client.until("turn.ended", status="completed")
        uncut = await gauge.generated()
        await client.send({"type": "session.close"})
        await client.closed()
    async with local_model() as (server, gauge, requests), server.connect() as client:
        turn = await ask(client, STORY)
        text = ""
        while len(text.split()) < 12:
            text += (await client.until("text.delta"))["text"]
        heard = " ".join(text.split(" ")[:8])
        played = {"chars": len(heard)}
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn, "played": played})
        end = await client.until("turn.ended")
        assert (end["status"], end["heard"]["text"]) == ("interrupted", heard)
        await gauge.becomes(0)
        assert await gauge.generated() < uncut
        await ask(client, "What was it about?", "i2")
        await client.until("turn.ended")
        assert requests[-1][-3:] == [
            {"role": "user", "content": STORY},
            {"role": "assistant", "content": f"{heard.rstrip()} [interrupted]"},
            {"role": "user", "content": "What was it about?"},
        ]


async def test_a_barge_in_by_the_python_client() -> None:
    """The same with `bargein_client`: nothing of the cut turn comes after the interrupt was sent."""
    async with local_model() as (server, gauge, requests), connect(server.url) as session:
        turn = session.send(STORY)
        seen: list[str] = []
        async for event in turn:
            if isinstance(event, TextDelta):
                seen.append(event.text)
                if len(seen) == 12:
                    outcome = await turn.interrupt()
        assert outcome.outcome == "interrupted"
        assert len(seen) == 12
        ended = await turn.ended()
        assert ended.status == "interrupted"
        assert ended.heard.text.startswith("".join(seen))
        await gauge.becomes(0)
        after = session.send("What was it about?")
        assert (await after.ended()).status == "completed"
        assert requests[-1][-2] == {
            "role": "assistant",
            "content": f"{ended.heard.text.rstrip()} [interrupted]",
        }
