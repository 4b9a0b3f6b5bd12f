"""One conversation over three transports; the fallback to streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from msgspec import structs

import bargein_protocol as bp
from bargein_client import ConnectError, connect
from bargein_client.session import ClientSession
from bargein_client.transports import session_url
from bargein_protocol import AudioDelta
from bargein_server import BearerTokens, Output, Turn
from client_script import Surroundings, patiently, until
from live_server import counting, serving
from relay import relay

WAYS: list[dict[str, Any]] = [
    {"transport": "websocket", "codec": "json"},
    {"transport": "websocket", "codec": "msgpack"},
    {"transport": "sse"},
]
ways = pytest.mark.parametrize("way", WAYS, ids=["json", "msgpack", "sse"])


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ws://localhost:8000", "ws://localhost:8000/v1/session"),
        ("localhost:8000", "ws://localhost:8000/v1/session"),
        ("[::1]:8000", "ws://[::1]:8000/v1/session"),
        ("127.0.0.1:8000/chat/", "ws://127.0.0.1:8000/chat/v1/session"),
        ("chat.example.com", "wss://chat.example.com/v1/session"),
        ("chat.example.com:8443/agent/v1/session", "wss://chat.example.com:8443/agent/v1/session"),
        ("http://example.org/", "ws://example.org/v1/session"),
        ("https://example.org/agents/a", "wss://example.org/agents/a"),
        ("wss://example.org/v1/session?x=1#y", "wss://example.org/v1/session?x=1"),
    ],
)
def test_urls_are_completed(given: str, meant: str) -> None:
    """The URLs of a browser are accepted, as in the JavaScript client."""
    assert session_url(given) == meant


@pytest.mark.parametrize("url", ["localhost:99999", "file:///v1/session", "::1", "//example.com", ""])
async def test_what_is_no_url_is_a_connect_error(url: str) -> None:
    """Immediately, and as given."""
    with pytest.raises(ConnectError, match="this is not a WebSocket URL, such as") as caught:
        async with connect(url):
            pass
    assert caught.value.url == url


class Script:
    """An agent that goes on whenever the test lets it."""

    def __init__(self) -> None:
        self.steps: asyncio.Queue[Output | None] = asyncio.Queue()
        self.histories: list[Any] = []

    def say(self, *steps: Output | None) -> None:
        for step in steps:
            self.steps.put_nowait(step)

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        self.histories.append(turn.history.messages())
        yield turn.status("thinking")
        yield turn.thought("hm")
        while (step := await self.steps.get()) is not None:
            yield step


def talk(port: int, way: dict[str, Any]) -> AbstractAsyncContextManager[ClientSession]:
    return connect(
        f"ws://127.0.0.1:{port}/v1/session",
        environment=Surroundings().environment(),
        give_up_after_s=float("inf"),
        audio=bp.SessionAudio(output=bp.AudioFormat(rate=24_000)),
        **way,
    )


async def converse(way: dict[str, Any]) -> tuple[list[bp.TurnState], list[Any]]:
    """Play the conversation; return its turns and the agent's histories.

    A turn whose line is cut in the middle, one that is interrupted in the middle, and one to the end.
    """
    agent = Script()
    async with (
        serving(agent) as server,
        relay(server.port) as line,
        talk(line.port, way) as session,
    ):
        cut = session.send("one")
        await patiently(cut.accepted())
        agent.say("It was ", "a dark ")
        await until(lambda: cut.text == "It was a dark ")
        line.cut()
        agent.say("night.", AudioDelta(audio=b"\0\1" * 240, start_ms=0, duration_ms=10, text="night"))
        agent.say(bp.Data(name="mood", value={"dark": [1, None, 2.5]}), None)
        await patiently(cut.ended())

        interrupted = session.send("two")
        await patiently(interrupted.accepted())
        agent.say("Never ", "mind ")
        async for event in interrupted:
            if isinstance(event, bp.TextDelta) and event.text == "mind ":
                break
        answer = await patiently(interrupted.interrupt(reason="enough"))
        assert answer.outcome == "interrupted"
        assert (await patiently(interrupted.ended())).heard.text == "Never mind "
        agent.steps = asyncio.Queue()

        last = session.send("three")
        await patiently(last.accepted())
        agent.say("Fin.", None)
        await patiently(last.ended())
        return [turn.state for turn in (cut, interrupted, last)], agent.histories


def transcript(turn: bp.TurnState) -> bp.TurnState:
    """Return a turn without ids and numbers, which differ between runs."""
    assert turn.heard is not None
    return structs.replace(
        turn,
        turn_id=bp.TurnId("t"),
        input_id=bp.InputId("i"),
        last_seq=bp.NO_SEQ,
        last_output_seq=bp.NO_SEQ,
        heard=structs.replace(turn.heard, seq=bp.NO_SEQ),
    )


@ways
async def test_the_transcript_is_the_same_whichever_way(way: dict[str, Any]) -> None:
    """With an interrupt and a resume; the agent gets the same history."""
    turns, histories = await converse(way)
    texts = [turn.lanes[""].text for turn in turns]
    assert texts == ["It was a dark night.", "Never mind ", "Fin."]
    assert [(turn.status, turn.reason) for turn in turns] == [
        ("completed", "completed"), ("interrupted", "enough"), ("completed", "completed"),
    ]  # fmt: skip
    lane = turns[0].lanes[""]
    assert (lane.status, lane.thoughts, lane.data) == ("thinking", "hm", {"mood": {"dark": [1, None, 2.5]}})
    assert lane.audio == [bp.AudioSpan(start_ms=0, duration_ms=10, text="night")]
    reference, told = await converse(WAYS[0])
    assert list(map(transcript, turns)) == list(map(transcript, reference))
    assert histories == told


@ways
async def test_a_credential_reaches_every_request(way: dict[str, Any]) -> None:
    """In the first frame alone, and not in a URL."""
    tokens = BearerTokens({"secret": "ann"})
    async with serving(counting, authenticator=tokens) as server:
        url = f"ws://127.0.0.1:{server.port}/v1/session"
        async with connect(url, token="secret", **way) as session:
            turn = session.send("x")
            await patiently(turn.accepted())
            assert (await patiently(turn.interrupt())).outcome == "interrupted"
        with pytest.raises(ConnectError) as refused:
            async with connect(url, token="wrong", **way):
                pass
        assert "authentication" in str(refused.value)
        assert len(server.sessions) == 0


# --- blocked WebSockets -------------------------------------------------------------------------


@asynccontextmanager
async def proxy(port: int, answer: bytes | None) -> AsyncIterator[tuple[int, list[str]]]:
    """Run a proxy that forwards requests but refuses or cuts upgrades.

    Yields:
        Its port, and the first line of each request.
    """
    asked: list[str] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n")[0].decode())
        if b"upgrade: websocket" in head.lower():
            if answer is not None:
                writer.write(answer)
                await writer.drain()
                writer.close()
            else:
                writer.transport.abort()
            return
        there, back = await asyncio.open_connection("127.0.0.1", port)
        back.write(head)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(pass_on(source, sink))
            tasks.add(task)

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.transport.abort()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1], asked
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def status(line: str) -> bytes:
    return f"HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize(
    "answer",
    [status("403 Forbidden"), status("404 Not Found"), status("426 Upgrade Required"),
     status("502 Bad Gateway"), status("200 OK"), b"SSH-2.0-nonsense\r\n\r\n", None],
    ids=["403", "404", "426", "502", "200", "nonsense", "cut"],
)  # fmt: skip
async def test_where_websockets_are_blocked_event_streams_are_used(answer: bytes | None) -> None:
    """By itself, and for good: the socket is tried once."""
    async with serving(counting) as server, proxy(server.port, answer) as (port, asked):
        async with connect(f"ws://127.0.0.1:{port}/v1/session") as session:
            turn = session.send("x")
            await patiently(turn.accepted())
            assert (await patiently(turn.interrupt())).outcome == "interrupted"
        assert [line for line in asked if line.startswith("GET")] == ["GET /v1/session HTTP/1.1"]
        assert "POST /v1/sessions HTTP/1.1" in asked


@pytest.mark.parametrize("line", ["401 Unauthorized", "407 Proxy Authentication Required", "429 Slow Down"])
async def test_who_asks_for_something_else_is_not_worked_around(line: str) -> None:
    """A credential or patience is wanted, and would be over HTTP, too."""
    async with serving(counting) as server, proxy(server.port, status(line)) as (port, asked):
        with pytest.raises(ConnectError) as refused:
            async with connect(f"ws://127.0.0.1:{port}/v1/session"):
                pass
        assert refused.value.status == int(line[:3])
        assert len(asked) == 1


async def test_what_the_server_itself_refuses_stays_refused() -> None:
    """A 403 of ours is about the client, and no other way is tried."""
    async with serving(counting) as server, relay(server.port) as line:
        with pytest.raises(ConnectError) as refused:
            async with connect(
                f"ws://127.0.0.1:{line.port}/v1/session", headers={"Origin": "https://evil.example"}
            ):
                pass
        assert refused.value.status == 403


async def test_a_place_without_a_server_of_ours_is_told_as_it_was_seen_first() -> None:
    """The error names the handshake's result, not the second attempt's."""
    async with serving(counting) as server, proxy(server.port, status("404 Not Found")) as (port, asked):
        with pytest.raises(ConnectError) as refused:
            async with connect(f"ws://127.0.0.1:{port}/elsewhere"):
                pass
        assert refused.value.status == 404
        assert len(asked) == 2


async def test_websockets_can_be_insisted_on() -> None:
    """Then nothing else is tried."""
    async with serving(counting) as server, proxy(server.port, status("403 Forbidden")) as (port, asked):
        with pytest.raises(ConnectError):
            async with connect(f"ws://127.0.0.1:{port}/v1/session", transport="websocket"):
                pass
        assert len(asked) == 1
