"""Chat completions with the `openai` package for JavaScript as it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from door_agent import play
from json_lines import JsonLines, json_lines
from live_server import Serving, serving
from relay import relay
from waiting import until

DRIVER = Path(__file__).with_name("completions_driver.js")
CHAT = {"X-Conversation-Id": "chat-1"}


@pytest.fixture(scope="module")
def driver() -> Iterator[JsonLines]:
    """Run the driver for all tests."""
    with json_lines(DRIVER) as running:
        yield running


async def ask(
    driver: JsonLines, server: Serving, *texts: str, port: int | None = None, **options: Any
) -> dict[str, Any]:
    """Send a conversation, and return the answer to its last message."""
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    base = f"http://127.0.0.1:{port or server.port}"
    return await driver.ask({"base": base, "messages": messages, "headers": CHAT, **options})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn(driver: JsonLines, stream: bool) -> None:
    """Streamed and whole."""
    async with serving(play, doors=["chat"]) as server:
        answer = await ask(driver, server, "hello", stream=stream)
        assert answer == {"models": ["play"], "text": "You said hello.", "finish": "stop"}


async def test_leaving_interrupts(driver: JsonLines) -> None:
    """The package aborts the request when its stream is left; the next turn has the heard part."""
    async with serving(play, doors=["chat"]) as server:
        left = await ask(driver, server, "count", stream=True, leave="5")
        [host] = list(server.sessions)
        await until(lambda: not host.core.busy, "the interrupt")
        answer = await ask(driver, server, "count", left["text"], "recall")
        [_, cut] = json.loads(answer["text"])
        assert cut["content"].startswith("1 2 3 4 5")
        assert cut["content"].endswith("[interrupted]")


async def test_a_tool_of_the_client(driver: JsonLines) -> None:
    """The package's own message with the call, and its result, go on with the turn."""
    async with serving(play, doors=["chat"]) as server:
        answer = await ask(driver, server, "locate", place="Oslo")
        assert answer["called"] == [["locate", {"precise": True}]]
        assert (answer["text"], answer["finish"]) == ("You are in Oslo.", "stop")


async def test_a_lost_line(driver: JsonLines) -> None:
    """It is an error of the package, and an interrupt; the next turn has the heard part."""
    async with serving(play, doors=["chat"]) as server, relay(server.port) as line:
        asked = asyncio.create_task(ask(driver, server, "count", stream=True, port=line.port))
        await until(lambda: server.sessions and next(iter(server.sessions)).core.busy, "the turn")
        [host] = list(server.sessions)
        await until(lambda: line.carried["down"] > 2000, "some output")
        line.cut()
        assert "error" in await asked
        await until(lambda: not host.core.busy, "the interrupt")
        answer = await ask(driver, server, "count", "1 2 3 ", "recall")
        [_, cut] = json.loads(answer["text"])
        assert cut["content"].endswith("[interrupted]")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure(driver: JsonLines, stream: bool) -> None:
    """It is an error of the package, in the middle of a stream too."""
    async with serving(play, doors=["chat"]) as server:
        answer = await ask(driver, server, "fail", stream=stream)
        assert answer["error"] == ("APIError" if stream else "InternalServerError")
        assert "the model could not be reached" in answer["message"]
