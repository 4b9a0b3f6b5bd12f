"""The AI SDK of versions 5, 6 and 7 as it is, over HTTP and its WebSocket transport."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bargein_server import BearerTokens
from door_agent import play
from json_lines import JsonLines, json_lines
from live_server import Serving, serving
from sse_client import http
from waiting import until

DRIVER = Path(__file__).with_name("chat_driver.js")
VERSIONS = (5, 6, 7)
WAYS = [*((version, False) for version in VERSIONS), (7, True)]
EVERY_WAY = pytest.mark.parametrize(("version", "socket"), WAYS, ids=["5", "6", "7", "7 over WebSocket"])


Chats = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture(scope="module")
def driver() -> Iterator[JsonLines]:
    """Run the driver for all tests: starting Node.js takes as long as ten of them."""
    with json_lines(DRIVER) as running:
        yield running


@pytest.fixture
def chat(driver: JsonLines) -> Chats:
    """Return a function that runs a chat, and returns what it has at its end."""

    async def run(
        server: Serving, version: int, *steps: list[Any], socket: bool = False, **options: Any
    ) -> dict[str, Any]:
        base = f"{'ws' if socket else 'http'}://127.0.0.1:{server.port}"
        asked = {"base": base, "version": version, "socket": socket, "steps": steps, **options}
        return await driver.ask(asked)

    return run


def text_of(message: dict[str, Any]) -> str:
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def kinds(message: dict[str, Any]) -> list[str]:
    return [part["type"] for part in message["parts"]]


def history(result: dict[str, Any]) -> Any:
    return json.loads(text_of(result["messages"][-1]))


@EVERY_WAY
async def test_turns_of_a_chat(chat: Chats, version: int, socket: bool) -> None:
    """Two turns in one session; the message has the turn's id."""
    async with serving(play, doors=["ai-sdk"]) as server:
        result = await chat(server, version, ["send", "hello"], ["send", "recall"], socket=socket)
        assert result["status"] == "ready"
        assert history(result) == [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "You said hello."},
        ]
        [host] = list(server.sessions)
        turns = host.core.outside.turns()
        assert [message["id"] for message in result["messages"][1::2]] == [turn.id for turn in turns]
        assert result["messages"][1]["metadata"] == {"usage": {"inputTokens": 7, "outputTokens": 3}}


@EVERY_WAY
async def test_all_kinds_of_output(chat: Chats, version: int, socket: bool) -> None:
    """Thoughts, tools of the server, data, voices and steps have parts of their own."""
    async with serving(play, doors=["ai-sdk"]) as server:
        result = await chat(server, version, ["send", "look"], socket=socket)
        message = result["messages"][-1]
        assert kinds(message) == [
            "step-start", "reasoning", "text", "tool-look", "data-progress", "step-start",
            "text", "text",
        ] or kinds(message) == [
            "step-start", "reasoning", "text", "tool-look", "data-progress", "data-picture", "step-start",
            "text", "text",
        ]  # fmt: skip
        parts = {part["type"]: part for part in message["parts"]}
        assert parts["reasoning"]["text"] == "I should look."
        assert parts["tool-look"]["input"] == {"at": "sky"}
        assert parts["tool-look"]["output"] == {"colour": "blue"}
        assert parts["tool-look"]["providerExecuted"] is True
        assert parts["data-picture"]["data"] == {"url": "sky.png"}
        assert {
            "type": "data-status",
            "data": {"message": "looking", "icon": "eye"},
            "transient": True,
        } in result["data"]
        assert [part["text"] for part in message["parts"] if part["type"] == "text"] == [
            "Let me look. ", "Too short.", "It is blue.",
        ]  # fmt: skip
        assert result["calls"] == []


@EVERY_WAY
async def test_stop_interrupts(chat: Chats, version: int, socket: bool) -> None:
    """By the endpoint over HTTP, by an abort on the WebSocket; the next turn has the heard part."""
    async with serving(play, doors=["ai-sdk"]) as server:
        way = "abort" if socket else "stop"
        result = await chat(
            server, version, ["begin", "count"], ["seen", "5"], [way], ["finished"], ["send", "recall"],
            socket=socket,
        )  # fmt: skip
        [_, cut] = history(result)
        assert cut["content"].endswith("[interrupted]")
        if not socket:
            assert text_of(result["messages"][1]).strip() in cut["content"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_reload_resumes(chat: Chats, version: int) -> None:
    """A lost client does not interrupt; the answer is replayed from its first chunk."""
    async with serving(play, doors=["ai-sdk"]) as server:
        result = await chat(
            server,
            version,
            ["begin", "count"],
            ["seen", "5"],
            ["reload"],
            ["seen", "60"],
            ["stop"],
            ["finished"],
        )
        numbers = text_of(result["messages"][-1]).split()
        assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
        assert len(result["messages"]) == 2


@EVERY_WAY
async def test_regenerate_and_edit(chat: Chats, version: int, socket: bool) -> None:
    """Both drop the turns after the message."""
    async with serving(play, doors=["ai-sdk"]) as server:
        result = await chat(
            server, version, ["send", "a"], ["send", "b"], ["regenerate"], ["send", "recall"], socket=socket
        )
        assert [each["content"] for each in history(result)] == ["a", "You said a.", "b", "You said b."]
        [host] = list(server.sessions)
        assert len(host.core.outside.turns()) == 3
        result = await chat(
            server, version, ["send", "a"], ["send", "b"], ["edit", 2, "recall"], socket=socket, id="chat-2"
        )
        assert [each["content"] for each in history(result)] == ["a", "You said a."]


@pytest.mark.parametrize(("version", "socket"), WAYS[1:], ids=["6", "7", "7 over WebSocket"])
@pytest.mark.parametrize("approved", [True, False])
async def test_approvals(chat: Chats, version: int, socket: bool, approved: bool) -> None:
    """The stream ends with the question, and the turn goes on in the same message after the answer."""
    async with serving(play, doors=["ai-sdk"]) as server:
        result = await chat(server, version, ["send", "buy"], ["approve", approved], socket=socket)
        assert len(result["messages"]) == 2
        message = result["messages"][-1]
        assert text_of(message) == ("May I? Done." if approved else "May I? I leave it.")
        [part] = [part for part in message["parts"] if part["type"] == "tool-buy"]
        assert part["state"] == ("output-available" if approved else "output-denied")
        assert part["approval"]["approved"] is approved


async def test_version_5_has_no_approvals(chat: Chats) -> None:
    """A call that needs one is refused there."""
    async with serving(play, doors=["ai-sdk"]) as server:
        result = await chat(server, 5, ["send", "buy"])
        assert text_of(result["messages"][-1]) == "May I? I leave it."


@EVERY_WAY
async def test_a_tool_of_the_client(chat: Chats, version: int, socket: bool) -> None:
    """The stream ends with the call, and the turn goes on in the same message after the output."""
    async with serving(play, doors=["ai-sdk"]) as server:
        result = await chat(server, version, ["send", "locate"], ["output", "Oslo"], socket=socket)
        message = result["messages"][-1]
        assert len(result["messages"]) == 2
        assert text_of(message) == "Where are you? You are in Oslo."
        assert [call["toolName"] for call in result["calls"]] == ["locate"]
        assert len(next(iter(server.sessions)).core.outside.turns()) == 1


@EVERY_WAY
async def test_a_failure(chat: Chats, version: int, socket: bool) -> None:
    """The client has the text and the error."""
    async with serving(play, doors=["ai-sdk"]) as server:
        result = await chat(server, version, ["send", "fail"], socket=socket)
        assert result["status"] == "error"
        assert result["error"] == "the model could not be reached"
        assert text_of(result["messages"][-1]) == "Well, "


@EVERY_WAY
async def test_values_for_the_agent(chat: Chats, version: int, socket: bool) -> None:
    """What the page gives with `body` is the input's metadata."""
    async with serving(play, doors=["ai-sdk"]) as server:
        result = await chat(server, version, ["send", "brief"], socket=socket, body={"plan": "free"})
        assert history(result) == {"plan": "free"}


@EVERY_WAY
async def test_a_protected_turn_is_read_to_its_end(chat: Chats, version: int, socket: bool) -> None:
    """A stop is deferred until the section is over."""
    async with serving(play, doors=["ai-sdk"]) as server:
        steps = [
            ["begin", "section"],
            ["seen", "This"],
            ["abort" if socket else "stop"],
            ["finished"],
            ["wait", 300],
        ]
        result = await chat(server, version, *steps, ["send", "recall"], socket=socket)
        assert history(result)[1]["content"].startswith("This is legal.")


async def test_a_token_is_needed(chat: Chats) -> None:
    """Without one a request is refused, over both transports."""
    tokens = BearerTokens({"secret": "ann"})
    async with serving(play, doors=["ai-sdk"], authenticator=tokens) as server:
        for version, socket in WAYS:
            result = await chat(server, version, ["send", "hello"], socket=socket)
            assert result["status"] == "error"
            result = await chat(server, version, ["send", "hello"], socket=socket, token="secret", id="mine")
            assert text_of(result["messages"][-1]) == "You said hello."
        assert len(server.sessions) == 1


async def test_a_lost_socket_is_a_lost_client() -> None:
    """Its turn goes on, and another socket resumes it from the first chunk."""
    from websockets.asyncio.client import connect

    send = {
        "type": "send", "requestId": "r1", "id": "chat-1", "trigger": "submit-message",
        "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "count"}]}],
        "headers": {}, "body": {},
    }  # fmt: skip
    async with serving(play, doors=["ai-sdk"]) as server:
        url = f"ws://127.0.0.1:{server.port}/api/chat"
        async with connect(url, proxy=None) as socket:
            await socket.send(json.dumps(send))
            frames = [json.loads(await socket.recv()) for _ in range(10)]
            socket.transport.abort()
        assert [frame["sequence"] for frame in frames] == list(range(10))
        [host] = list(server.sessions)
        await until(lambda: host.connection is None, "the loss")
        assert host.core.busy
        async with connect(url, proxy=None) as socket:
            await socket.send(
                json.dumps({"type": "resume", "requestId": "r2", "id": "other", "headers": {}, "body": {}})
            )
            assert json.loads(await socket.recv()) == {"type": "no-active", "requestId": "r2"}
            await socket.send(
                json.dumps({"type": "resume", "requestId": "r3", "id": "chat-1", "headers": {}, "body": {}})
            )
            assert json.loads(await socket.recv()) == {"type": "start", "requestId": "r3"}
            again = [json.loads(await socket.recv()) for _ in range(12)]
            assert [frame["chunk"] for frame in again[:3]] == [frame["chunk"] for frame in frames[:3]]
            await socket.send(json.dumps({"type": "abort", "requestId": "r3"}))
            await until(lambda: not host.core.busy, "the interrupt")


async def test_resume_without_a_turn(chat: Chats) -> None:
    """There is nothing to stream, of an unknown chat too; stopping that is an error."""
    async with serving(play, doors=["ai-sdk"]) as server, http(server) as plain:
        assert (await plain.request("GET", "/api/chat/none/stream")).status_code == 204
        assert (await plain.post("/api/chat/none/stop", {})).status_code == 404
        await chat(server, 7, ["send", "hello"])
        assert (await plain.request("GET", "/api/chat/chat-1/stream")).status_code == 204
        response = await plain.post("/api/chat/chat-1/stop", {})
        assert response.json()["outcome"] == "already_ended"


@pytest.mark.parametrize(("method", "action"), [("GET", "stream"), ("POST", "stop")])
async def test_an_id_that_no_chat_has(method: str, action: str) -> None:
    """It is longer than those that a message may have, so it is refused."""
    async with serving(play, doors=["ai-sdk"]) as server, http(server) as plain:
        response = await plain.request(method, f"/api/chat/{'0' * 513}/{action}")
        assert (response.status_code, "1 to 512 characters" in response.text) == (422, True)


async def test_a_head_request_reads_nothing() -> None:
    """It tells whether a turn runs, and does not drive the session."""
    message = {"id": "u", "role": "user", "parts": [{"type": "text", "text": "count"}]}
    async with serving(play, doors=["ai-sdk"]) as server, http(server) as plain:
        body = json.dumps({"id": "chat-1", "messages": [message]})
        headers = {"Content-Type": "application/json"}
        async with plain.client.stream(
            "POST", plain.base + "/api/chat", content=body, headers=headers
        ) as first:
            await anext(first.aiter_lines())
        [host] = list(server.sessions)
        await until(lambda: host.connection is None, "the loss")
        assert (await plain.request("HEAD", "/api/chat/chat-1/stream")).status_code == 200
        assert host.connection is None
        assert (await plain.request("HEAD", "/api/chat/other/stream")).status_code == 204


async def test_the_last_message_alone_is_enough() -> None:
    """A page may leave out what the server has."""

    def body(text: str, **more: Any) -> dict[str, Any]:
        message = {"id": "u", "role": "user", "parts": [{"type": "text", "text": text}]}
        return {"id": "chat-1", "message": message, **more}

    async with serving(play, doors=["ai-sdk"]) as server, http(server) as plain:
        await plain.post("/api/chat", body("a"))
        await plain.post("/api/chat", body("b"))
        [host] = list(server.sessions)
        [_, second] = host.core.outside.turns()
        again = await plain.post(
            "/api/chat", body("recall", trigger="regenerate-message", messageId=second.id)
        )
        assert "You said a." in again.text
        assert "You said b." not in again.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"messages": []}, 422),
        ({"id": "a", "messages": []}, 422),
        ({"id": "a", "messages": [{"role": "system", "parts": []}]}, 422),
        ({"id": "", "messages": [{"role": "user", "parts": []}]}, 422),
        ({"id": "a", "messages": [{"role": "assistant", "id": "x", "parts": []}]}, 409),
        ({"id": "a", "messages": [{"role": "user", "parts": [1]}]}, 422),
        ([], 422),
        (b"{", 400),
    ],
)
async def test_wrong_bodies(body: Any, status: int) -> None:
    """They are refused, with a reason."""
    async with serving(play, doors=["ai-sdk"]) as server, http(server) as plain:
        response = await plain.post("/api/chat", body)
        assert response.status_code == status
        assert response.json()["message"]


async def test_wrong_frames() -> None:
    """They end no other stream of the socket."""
    from websockets.asyncio.client import connect

    async with (
        serving(play, doors=["ai-sdk"]) as server,
        connect(f"ws://127.0.0.1:{server.port}/api/chat", proxy=None) as socket,
    ):
        await socket.send("{")
        await socket.send("[]")
        await socket.send(json.dumps({"type": "dance", "requestId": "r1"}))
        assert json.loads(await socket.recv())["errorText"] == "unknown type of frame"
        await socket.send(json.dumps({"type": "send", "requestId": "r2", "id": "a", "messages": []}))
        assert json.loads(await socket.recv())["type"] == "error"
        await socket.send(json.dumps({"type": "abort", "requestId": "unknown"}))
        await socket.send(
            json.dumps(
                {
                    "type": "send",
                    "requestId": "r3",
                    "id": "a",
                    "messages": [{"role": "user", "content": "hi"}],
                }
            )
        )
        frames = [json.loads(await socket.recv()) for _ in range(7)]
        assert frames[-1]["type"] in ("chunk", "end")
        assert {frame["requestId"] for frame in frames} == {"r3"}
