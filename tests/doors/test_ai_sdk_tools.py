"""Tools of a real tool loop in the AI SDK's messages: a part for each call, in its right state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.tools import tool
from json_lines import JsonLines, json_lines
from live_server import Serving, serving
from model_server import Upstream
from scripted_model import Model, Part, call, say
from sse_client import http

DRIVER = Path(__file__).with_name("chat_driver.js")
WAYS = [(5, False), (6, False), (7, False), (7, True)]
EVERY_WAY = pytest.mark.parametrize(("version", "socket"), WAYS, ids=["5", "6", "7", "7 over WebSocket"])
APPROVING = pytest.mark.parametrize(("version", "socket"), WAYS[1:], ids=["6", "7", "7 over WebSocket"])
"""Version 5 has no approvals."""

Chat = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="module")
def driver() -> Iterator[JsonLines]:
    """Run the driver for all tests."""
    with json_lines(DRIVER) as running:
        yield running


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def slow(a: int) -> int:
    """Take a while."""
    await asyncio.sleep(0.2)
    return a


@tool
async def wait() -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


@tool(runs_in="client")
async def locate(who: str) -> str:
    """Find a person."""
    raise NotImplementedError


@tool(confirm=True)
async def pay(amount: int) -> str:
    """Pay; nothing takes for ever."""
    if not amount:
        await asyncio.Event().wait()
    return f"paid {amount}"


@asynccontextmanager
async def desk(*steps: list[Part]) -> AsyncIterator[Serving]:
    """Serve an agent whose model answers with these steps."""
    async with Upstream(Model(*steps)) as upstream:
        tools = [add, slow, wait, locate, pay]
        agent = OpenAIAgent(model="m", base_url=upstream.url, api_key="key", tools=tools)
        async with serving(agent, doors=["ai-sdk"]) as server:
            yield server


@pytest.fixture
def chat(driver: JsonLines) -> Chat:
    """Return a function that runs a chat."""

    async def run(
        server: Serving, version: int, socket: bool, *steps: list[Any], **options: Any
    ) -> dict[str, Any]:
        base = f"{'ws' if socket else 'http'}://127.0.0.1:{server.port}"
        return await driver.ask(
            {"base": base, "version": version, "socket": socket, "steps": steps, **options}
        )

    return run


def tools_of(result: dict[str, Any]) -> list[tuple[str, str, Any, Any]]:
    """Return name, state, input and output of each part of a tool."""
    [message] = [each for each in result["messages"] if each["role"] == "assistant"]
    return [
        (part["type"], part["state"], part.get("input"), part.get("output"))
        for part in message["parts"]
        if part["type"].startswith("tool-")
    ]


def text_of(result: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in result["messages"][-1]["parts"])


@EVERY_WAY
async def test_a_tool_of_the_server(chat: Chat, version: int, socket: bool) -> None:
    """Its step of the model has ended before it runs; it has one part."""
    async with desk([say("Let me see. "), call("add", a=1, b=2)], [say("It is 3.")]) as server:
        result = await chat(server, version, socket, ["send", "go"], ["idle"])
    assert tools_of(result) == [("tool-add", "output-available", {"a": 1, "b": 2}, 3)]
    assert text_of(result) == "Let me see. It is 3."


@EVERY_WAY
async def test_two_tools_of_the_client(chat: Chat, version: int, socket: bool) -> None:
    """The page runs both."""
    calls = [call("locate", who="Ann"), call("locate", who="Bob")]
    async with desk([*calls], [say("Both.")]) as server:
        result = await chat(server, version, socket, ["send", "go"], ["idle"], outputs={"locate": "Oslo"})
    assert tools_of(result) == [
        ("tool-locate", "output-available", {"who": "Ann"}, "Oslo"),
        ("tool-locate", "output-available", {"who": "Bob"}, "Oslo"),
    ]
    assert text_of(result) == "Both."


@EVERY_WAY
@pytest.mark.parametrize("first", ["slow", "locate"])
async def test_a_tool_of_the_client_beside_one_of_the_server(
    chat: Chat, version: int, socket: bool, first: str
) -> None:
    """The result of the server's comes after the page's."""
    calls = [call("slow", a=1), call("locate", who="Ann")]
    async with desk(calls if first == "slow" else calls[::-1], [say("Both.")]) as server:
        result = await chat(server, version, socket, ["send", "go"], ["idle"], outputs={"locate": "Oslo"})
    assert sorted(tools_of(result)) == [
        ("tool-locate", "output-available", {"who": "Ann"}, "Oslo"),
        ("tool-slow", "output-available", {"a": 1}, 1),
    ]
    assert text_of(result) == "Both."


@APPROVING
@pytest.mark.parametrize("approved", [True, False])
async def test_two_approvals(chat: Chat, version: int, socket: bool, approved: bool) -> None:
    """The user decides on one after the other."""
    async with desk([call("pay", amount=1), call("pay", amount=2)], [say("So be it.")]) as server:
        result = await chat(server, version, socket, ["send", "go"], ["decide", approved], ["idle"])
    states = [each[:3] for each in tools_of(result)]
    state = "output-available" if approved else "output-denied"
    assert states == [("tool-pay", state, {"amount": 1}), ("tool-pay", state, {"amount": 2})]
    assert text_of(result) == "So be it."


@EVERY_WAY
async def test_nothing_after_the_output_of_the_client(chat: Chat, version: int, socket: bool) -> None:
    """The page does not send the output again and again."""
    async with desk([call("locate", who="Ann")], []) as server:
        result = await chat(server, version, socket, ["send", "go"], ["idle"], outputs={"locate": "Oslo"})
    assert tools_of(result) == [("tool-locate", "output-available", {"who": "Ann"}, "Oslo")]
    assert result["requests"] in (0, 2)


@APPROVING
@pytest.mark.parametrize("other", ["slow", "locate"])
@pytest.mark.parametrize("asks_first", [True, False])
async def test_an_approval_beside_another_tool(
    chat: Chat, version: int, socket: bool, other: str, asks_first: bool
) -> None:
    """Each has one part, and the page sends each answer by itself."""
    beside = call("slow", a=1) if other == "slow" else call("locate", who="Ann")
    calls = [call("pay", amount=1), beside]
    async with desk(calls if asks_first else calls[::-1], [say("Both.")]) as server:
        result = await chat(
            server, version, socket, ["send", "go"], ["idle"], ["decide", True], ["idle"],
            outputs={"locate": "Oslo"},
        )  # fmt: skip
    assert {each[:2] for each in tools_of(result)} == {
        ("tool-pay", "output-available"),
        (f"tool-{other}", "output-available"),
    }
    assert len(tools_of(result)) == 2
    assert text_of(result) == "Both."


@EVERY_WAY
async def test_a_stop_while_a_tool_runs(chat: Chat, version: int, socket: bool) -> None:
    """Its part does not wait for ever."""
    async with desk([call("wait")]) as server:
        stop = "abort" if socket else "stop"
        result = await chat(
            server,
            version,
            socket,
            ["begin", "go"],
            ["has", "input-available"],
            [stop],
            ["finished"],
            ["idle"],
        )
    [part] = tools_of(result)
    # The SDK drops all that comes after its own abort.
    assert part[1] == ("input-available" if socket else "output-error")
    assert result["status"] == "ready"


@APPROVING
async def test_a_stop_after_the_consent(chat: Chat, version: int, socket: bool) -> None:
    """The page does not send the consent again and again."""
    async with desk([call("pay", amount=0)]) as server:
        result = await chat(
            server, version, socket, ["send", "go"], ["consent"], ["has", "approval-responded"],
            ["wait", 100], ["stop"], ["idle"],
        )  # fmt: skip
    [part] = tools_of(result)
    assert part[1] == "output-error"
    assert result["requests"] in (0, 2)
    assert result["status"] == "ready"


async def chunks(server: Serving, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    """Send messages; return the chunks of the answer."""
    async with http(server) as client:
        response = await client.post("/api/chat", {"id": "c", "messages": messages})
    blocks = response.text.split("\n\n")
    return [json.loads(block[6:]) for block in blocks if block.startswith("data: {")]


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [chunk["type"] for chunk in found]


USER = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "go"}]}


async def test_a_step_waits_for_the_inputs_of_its_calls() -> None:
    """Both inputs are in the step in which the first call began."""
    async with desk([call("add", a=1, b=2), call("add", a=3, b=4)], [say("Done.")]) as server:
        found = kinds(await chunks(server, USER))
    assert found[: found.index("finish-step")].count("tool-input-available") == 2


async def test_a_call_that_asks_has_its_own_step() -> None:
    """The call before it is complete."""
    async with desk([call("wait"), call("locate", who="Ann")]) as server:
        found = kinds(await chunks(server, USER))
    assert found[-6:] == [
        "tool-input-available", "finish-step", "start-step", "tool-input-available", "finish-step", "finish",
    ]  # fmt: skip


async def test_a_stream_that_goes_on_has_a_step() -> None:
    """It is empty when the turn has nothing more."""
    async with desk([call("locate", who="Ann")], []) as server:
        first = await chunks(server, USER)
        [made] = [chunk for chunk in first if chunk["type"] == "tool-input-available"]
        part = {
            "type": "tool-locate", "toolCallId": made["toolCallId"], "state": "output-available",
            "input": made["input"], "output": "Oslo",
        }  # fmt: skip
        answer = {"id": first[0]["messageId"], "role": "assistant", "parts": [part]}
        found = kinds(await chunks(server, USER, answer))
    assert found == ["start", "tool-output-available", "start-step", "finish-step", "finish"]
