"""The OpenAI Agents SDK for JavaScript as it is, as a client of the Realtime door."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bargein_server import BearerTokens
from door_agent import play
from json_lines import JsonLines, json_lines
from live_server import Serving, serving
from realtime_client import text_of
from realtime_sound import RATE, in_pieces, listening, sound, talker

DRIVER = Path(__file__).with_name("realtime_driver.js")


@pytest.fixture(scope="module")
def driver() -> Iterator[JsonLines]:
    """Run the driver for all tests."""
    with json_lines(DRIVER) as running:
        yield running


async def talk(driver: JsonLines, server: Serving, *steps: list[Any], **options: Any) -> dict[str, Any]:
    """Run a session; return what the SDK has at its end."""
    url = f"ws://127.0.0.1:{server.port}/v1/realtime?conversation=mine"
    return await driver.ask({"url": url, "steps": steps, **options})


async def test_a_turn(driver: JsonLines) -> None:
    """Question and answer are in the SDK's history, in their order."""
    async with serving(play, doors=["realtime"]) as server:
        result = await talk(driver, server, ["send", "hello"])
        [asked, answered] = result["history"]
        assert asked["content"] == [{"type": "input_text", "text": "hello"}]
        assert answered["content"] == [{"type": "output_text", "text": "You said hello."}]
        assert (answered["status"], answered["previousItemId"]) == ("completed", asked["itemId"])


async def test_an_interrupted_turn(driver: JsonLines) -> None:
    """The response is over within a second; the next turn has what the SDK was given."""
    async with serving(play, doors=["realtime"]) as server:
        result = await talk(driver, server, ["begin", "count"], ["seen", "5"], ["cancel"], ["send", "recall"])
        cut, recalled = result["responses"]
        assert cut["status"] == "cancelled"
        assert result["took"] < 1000
        messages = json.loads(text_of(recalled))
        assert messages[-1]["content"] == f"{text_of(cut)}[interrupted]"


async def test_a_tool_of_the_client(driver: JsonLines) -> None:
    """The SDK runs it, and asks for the rest of the turn."""
    async with serving(play, doors=["realtime"]) as server:
        result = await talk(driver, server, ["send", "locate me", 2], ["send", "hello"])
        assert result["called"] == [{"precise": True}]
        assert [text_of(each) for each in result["responses"]] == [
            "Where are you? ", "You are in Oslo.", "You said hello.",
        ]  # fmt: skip


async def test_a_lost_line(driver: JsonLines) -> None:
    """A new connection goes on with the conversation, which has what was sent before."""
    async with serving(play, doors=["realtime"]) as server:
        result = await talk(
            driver, server, ["send", "hello"], ["begin", "count"], ["seen", "5"], ["lose"], ["send", "recall"]
        )
        messages = json.loads(text_of(result["responses"][-1]))
        assert [message["content"] for message in messages[:3]] == ["hello", "You said hello.", "count"]
        assert messages[3]["content"].startswith("1 2 3 4 5")
        assert len(server.sessions) == 1


async def test_a_key(driver: JsonLines) -> None:
    """It is the token."""
    tokens = BearerTokens({"secret": "ann"})
    async with serving(play, doors=["realtime"], authenticator=tokens) as server:
        result = await talk(driver, server, ["send", "hello"], key="secret")
        assert text_of(result["responses"][0]) == "You said hello."


async def test_an_interrupt_of_speech(driver: JsonLines) -> None:
    """The SDK truncates and cancels; the response ends within a second, and the next one is whole."""
    silent = {"input": {"turnDetection": None}}
    async with serving(talker, doors=["realtime"], voice=listening("never")) as server:
        steps: list[list[Any]] = [["begin", "talk"], ["sounded", RATE // 5], ["interrupt"], ["send", "hello"]]
        result = await talk(driver, server, *steps, modality="audio", audio=silent)
        cut, whole = result["responses"]
        assert cut["status"] == "cancelled"
        assert result["took"] < 1000
        assert text_of(whole) == "You said hello."
        assert "conversation.item.truncated" in result["types"]


async def test_a_barge_in_by_voice(driver: JsonLines) -> None:
    """Speech cuts the answer, and becomes the next turn; the SDK has both in its history."""
    speech = list(in_pieces(sound(100, False), sound(1200, True), sound(900, False)))
    async with serving(talker, doors=["realtime"], voice=listening("stop it")) as server:
        steps: list[list[Any]] = [["begin", "talk"], ["sounded", RATE // 5], ["speak", speech, 2]]
        result = await talk(driver, server, *steps, modality="audio")
        cut, answer = result["responses"]
        assert cut["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert text_of(answer) == "You said stop it."
        assert [each["role"] for each in result["history"]] == ["user", "assistant", "user", "assistant"]
