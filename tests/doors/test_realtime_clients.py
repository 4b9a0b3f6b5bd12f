"""Realtime clients of others, unmodified: the Agents SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.transport.connection import Connection
from door_agent import play
from live_server import Serving, serving
from model_server import Upstream
from scripted_model import Model, call, say

if not find_spec("agents"):
    pytest.skip("openai-agents is installed beside the pinned versions alone", allow_module_level=True)

from agents.realtime import RealtimeAgent, RealtimeRunner, RealtimeSession

from agents import function_tool

SETTINGS: Any = {"output_modalities": ["text"]}


@function_tool
async def locate(name: str) -> str:
    """Tell where somebody is."""
    return f"{name} is in Oslo"


class Person:
    """A user of the SDK."""

    def __init__(self, session: RealtimeSession) -> None:
        self.session = session
        self.kinds: list[str] = []

    async def until(self, kind: str) -> Any:
        """Return the next event of a type."""
        async with asyncio.timeout(10):
            async for event in self.session:
                raw = getattr(event, "data", None)
                self.kinds.append(event.type if raw is None else f"raw:{raw.type}")
                if event.type == kind or self.kinds[-1] == kind:
                    return event
                assert event.type != "error", event
        raise AssertionError("the stream ended")

    def answers(self) -> list[str]:
        """Return the texts of the assistant in the SDK's history."""
        return [
            "".join(str(getattr(part, "text", None) or "") for part in item.content)
            for item in self.session._history
            if item.type == "message" and item.role == "assistant"
        ]


@asynccontextmanager
async def person(agent: Any) -> AsyncIterator[Person]:
    """Serve an agent and connect the SDK to it."""
    async with serving(agent, doors=["realtime"]) as server, connected(server) as user:
        yield user


@asynccontextmanager
async def connected(server: Serving, query: str = "") -> AsyncIterator[Person]:
    """Connect the SDK to a server."""
    runner = RealtimeRunner(
        RealtimeAgent(name="helper", instructions="Be kind.", tools=[locate]),
        config={"model_settings": SETTINGS},
    )
    url = f"ws://127.0.0.1:{server.port}/v1/realtime{query}"
    async with await runner.run(model_config={"url": url, "api_key": "none"}) as session:
        yield Person(session)


async def test_a_turn_and_an_interrupted_turn() -> None:
    """The answer is in the SDK's history; an interrupt ends the turn, and the next one works."""
    async with person(play) as user:
        await user.session.send_message("hello")
        await user.until("agent_end")
        assert user.answers() == ["You said hello."]
        await user.session.send_message("count")
        await user.until("raw:output_text_delta")
        await user.session.interrupt()
        await user.until("agent_end")
        await user.session.send_message("again")
        await user.until("agent_end")
        assert user.answers()[-1] == "You said again."


async def test_a_tool_of_the_client() -> None:
    """The SDK runs it, and the model gets its result."""
    model = Model()
    model.steps += [[call("locate", name="Ann")], [say("In Oslo.")]]
    async with Upstream(model) as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url, client_tools=True, client_instructions=True)
        async with person(agent) as user:
            await user.session.send_message("where is Ann?")
            await user.until("tool_end")
            await user.until("agent_end")
            assert user.answers()[-1] == "In Oslo."
    assert model.results() == ["Ann is in Oslo"]
    assert model.requests[0]["messages"][0] == {"role": "system", "content": "Be kind."}


async def test_a_lost_line() -> None:
    """The SDK does not connect again; a new session of it goes on with the conversation."""
    async with serving(play, doors=["realtime"]) as server:
        async with connected(server, "?conversation=mine") as user:
            await user.session.send_message("count")
            await user.until("raw:output_text_delta")
            [host] = list(server.sessions)
            assert isinstance(host.connection, Connection)
            host.connection.wire.abort()
            with pytest.raises(ConnectionClosed):
                await user.until("agent_end")
        async with connected(server, "?conversation=mine") as user:
            await user.session.send_message("recall")
            await user.until("agent_end")
            said = json.loads(user.answers()[-1])
    assert said[0] == {"role": "user", "content": "count"}
    assert said[1]["content"].startswith("1 ")
    assert said[1]["content"].endswith("[interrupted]")
