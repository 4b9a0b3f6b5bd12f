"""LiveKit's and Pipecat's plugins for OpenAI's Realtime protocol as they are."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bargein_server.transport.connection import Connection
from client_programs import environment
from door_agent import play
from json_lines import JsonLines, json_lines
from live_server import Serving, serving
from realtime_sound import RATE, in_pieces, listening, sound
from waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.foreign, pytest.mark.timeout(900)]

SPEECH = {
    "pieces": list(in_pieces(sound(100, False), sound(1200, True))),
    "silence": list(in_pieces(sound(900, False))),
}


@pytest.fixture(scope="module")
def programs() -> Path:
    """Return the folder of their Python."""
    return environment("clients")


@pytest.fixture
def livekit(programs: Path) -> Iterator[JsonLines]:
    """Run LiveKit's plugin."""
    with json_lines(Path(__file__).with_name("livekit_driver.py"), programs / "python") as driver:
        yield driver


@pytest.fixture
def pipecat(programs: Path) -> Iterator[JsonLines]:
    """Run Pipecat's service."""
    with json_lines(Path(__file__).with_name("pipecat_driver.py"), programs / "python") as driver:
        yield driver


@asynccontextmanager
async def connected(driver: JsonLines, query: str = "", **options: Any) -> AsyncIterator[Serving]:
    """Serve the agent to a client."""
    async with serving(play, doors=["realtime"], **options) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/realtime{query}"
        await driver.ask({"step": "connect", "url": url})
        yield server
        await driver.ask({"step": "close"})


def lose(server: Serving) -> None:
    """Break the connection of the only session that has one."""
    [connection] = [host.connection for host in server.sessions if host.connection is not None]
    assert isinstance(connection, Connection)
    connection.wire.abort()


async def test_livekit(livekit: JsonLines) -> None:
    """A turn, an interrupted one, and a function of the client."""
    async with connected(livekit):
        assert (await livekit.ask({"step": "send", "words": "hello"}))["text"] == "You said hello."
        await livekit.ask({"step": "begin", "words": "count", "seen": "5"})
        cut = await livekit.ask({"step": "interrupt"})
        assert cut["took"] < 1
        located = await livekit.ask({"step": "send", "words": "locate me"})
        assert located["text"] == "Where are you? You are in Oslo."
        assert [json.loads(call) for call in located["called"]] == [{"precise": True}]
        messages = json.loads((await livekit.ask({"step": "send", "words": "recall"}))["text"])
        assert messages[3]["content"] == f"{cut['text']}[interrupted]"
        assert [message["role"] for message in messages[4:]] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize("query", ["", "?conversation=mine"])
async def test_livekit_reconnects(livekit: JsonLines, query: str) -> None:
    """It sends its conversation again; a session that has it already does not have it twice."""
    async with connected(livekit, query) as server:
        await livekit.ask({"step": "send", "words": "hello"})
        await livekit.ask({"step": "begin", "words": "count", "seen": "5"})
        lose(server)
        await livekit.ask({"step": "reconnect"})
        await livekit.ask({"step": "send", "words": "hello"})
        messages = json.loads((await livekit.ask({"step": "send", "words": "recall"}))["text"])
        said = [message["content"] for message in messages if message["role"] == "user"]
        assert said[0] == "hello"
        assert said.count("hello") <= 2
        assert sum("count" in text for text in said) == 1


async def test_pipecat(pipecat: JsonLines) -> None:
    """A turn, and a barge-in by voice; its context is the conversation."""
    async with connected(pipecat, voice=listening("count", "hello")):
        await pipecat.ask({"step": "send", "seen": "You said hello."})
        await pipecat.ask({"step": "begin", **SPEECH, "sound": RATE // 5})
        cut = await pipecat.ask({"step": "interrupt", **SPEECH, "seen": "You said hello."})
        assert cut["took"] < 1
        state = await pipecat.ask({"step": "state"})
        assert state["errors"] == []
        said = [message["content"] for message in state["messages"] if message["role"] == "user"]
        assert said[:2] == ["hello", "count"]  # Pipecat writes the last one down later


async def test_a_function_of_pipecat(pipecat: JsonLines) -> None:
    """Pipecat runs it, and the turn goes on with its output."""
    async with connected(pipecat, voice=listening("locate me")):
        await pipecat.ask({"step": "send", "seen": "You said hello."})
        step = {"step": "speak", **SPEECH, "seen": 'You are in "Oslo".'}
        assert (await pipecat.ask(step))["called"][0] == {"precise": True}


async def test_pipecat_reconnects(pipecat: JsonLines) -> None:
    """Its user goes on in a new connection, which answers what is said next."""
    async with connected(pipecat, voice=listening("count", "hello")) as server:
        await pipecat.ask({"step": "send", "seen": "You said hello."})
        await pipecat.ask({"step": "begin", **SPEECH, "sound": RATE // 5})
        lose(server)
        await until(lambda: all(host.connection is None for host in server.sessions), "the end of the line")
        await pipecat.ask({"step": "reconnect"})
        await pipecat.ask({"step": "speak", **SPEECH, "seen": "You said hello."})
