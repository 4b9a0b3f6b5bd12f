"""The tool loop against an OpenAI-compatible server that others wrote, over the whole line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aimock import Fixture, aimock
from bargein_server import Agent, Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.parallel import Parallel
from live_server import ask, serving
from scripted_model import check_messages

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

SLOWLY: Fixture = {"streamingProfile": {"ttft": 5, "tps": 200}, "chunkSize": 4}
WEATHER: list[Fixture] = [
    {
        "match": {"userMessage": "weather", "hasToolResult": False},
        "response": {
            "content": "Let me look. ",
            "toolCalls": [
                {"name": "get_weather", "arguments": {"city": "Paris"}},
                {"name": "get_weather", "arguments": {"city": "Oslo"}},
            ],
        },
        **SLOWLY,
    },
    {
        "match": {"userMessage": "weather", "hasToolResult": True},
        "response": {"content": "Sunny in Paris, rain in Oslo."},
        **SLOWLY,
    },
    {"match": {"userMessage": "and"}, "response": {"content": "You are welcome."}},
]


async def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return {"Paris": "sunny", "Oslo": "rain"}[city]


async def test_a_tool_conversation(tmp_path: Path) -> None:
    """Calls with their streamed arguments, results, the answer, and a second turn that knows of them."""
    async with aimock(tmp_path, WEATHER) as model:
        agent = OpenAIAgent(model="gpt-4o", base_url=model.url, tools=[get_weather])
        async with serving(agent) as server, server.connect() as client:
            await ask(client, "what is the weather?")
            ended = await client.until("turn.ended")
            assert (ended["status"], ended["heard"]["text"]) == (
                "completed", "Let me look. Sunny in Paris, rain in Oslo.",
            )  # fmt: skip
            kinds = [frame["type"] for frame in client.frames]
            assert kinds.count("tool.call.delta") > 2
            assert [f["arguments"] for f in client.frames if f["type"] == "tool.running"] == [
                {"city": "Paris"}, {"city": "Oslo"},
            ]  # fmt: skip
            results = [frame["output"] for frame in client.frames if frame["type"] == "tool.result"]
            assert sorted(results) == ["rain", "sunny"]
            await ask(client, "and thanks", "i2")
            assert (await client.until("turn.ended"))["heard"]["text"] == "You are welcome."
        for request in await model.requests():
            check_messages(request["messages"])


async def test_an_interrupt_in_the_middle_of_the_arguments(tmp_path: Path) -> None:
    """Half of a call is no obstacle to the next request."""
    async with aimock(tmp_path, WEATHER) as model:
        agent = OpenAIAgent(model="gpt-4o", base_url=model.url, tools=[get_weather])
        async with serving(agent) as server, server.connect() as client:
            turn = await ask(client, "what is the weather?")
            await client.until("tool.call.delta")
            await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
            assert (await client.until("turn.ended"))["status"] == "interrupted"
            await ask(client, "and thanks", "i2")
            assert (await client.until("turn.ended"))["heard"]["text"] == "You are welcome."
        check_messages((await model.requests())[-1]["messages"])


@pytest.mark.parametrize("fault", ["--chaos-drop", "--chaos-disconnect", "--chaos-malformed"])
async def test_a_server_that_always_fails(tmp_path: Path, fault: str) -> None:
    """The turn fails for the model's sake, may be tried again, and the session lives on."""
    async with aimock(tmp_path, WEATHER, fault, "1") as model:
        agent = OpenAIAgent(model="gpt-4o", base_url=model.url, tools=[get_weather], max_retries=0)
        async with serving(agent) as server, server.connect() as client:
            for input_id in ("i1", "i2"):
                await ask(client, "what is the weather?", input_id)
                ended = await client.until("turn.ended")
                assert (ended["status"], ended["reason"], ended["retryable"]) == ("failed", "upstream", True)


async def test_specialists_side_by_side(tmp_path: Path) -> None:
    """Three models answer at the same time; a fourth merges what they said."""
    fixtures: list[Fixture] = [
        {
            "match": {"systemMessage": f"You are {name}."},
            "response": {"content": f"{name} says {'very ' * 20}well."},
            # Slow against the time in which the requests leave, which on a busy machine is long.
            "streamingProfile": {"ttft": 500, "tps": 40},
            "chunkSize": 4,
        }
        for name in ("Ann", "Bob", "Cy")
    ]
    async with aimock(tmp_path, fixtures) as model:

        def specialist(name: str) -> Agent:
            return OpenAIAgent(model="gpt-4o", base_url=model.url, instructions=f"You are {name}.")

        async def panel(turn: Turn) -> AsyncIterator[Output]:
            team = Parallel(turn, {name: specialist(name) for name in ("Ann", "Bob", "Cy")})
            async for output in team.outputs():
                yield output
            yield " ".join(branch.text.split()[0] for branch in team.branches.values())

        async with serving(panel) as server, server.connect() as client:
            await ask(client)
            ended = await client.until("turn.ended")
        assert (ended["status"], ended["heard"]["text"]) == ("completed", "Ann Bob Cy")
        sources = [f.get("source", "") for f in client.frames if f["type"] == "text.delta"]
        last_begins = max(sources.index(name) for name in ("Ann", "Bob", "Cy"))
        first_ends = min(len(sources) - sources[::-1].index(name) for name in ("Ann", "Bob", "Cy"))
        assert last_begins < first_ends
