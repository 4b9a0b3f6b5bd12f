"""Doors at several workers: a request of a conversation is answered by the worker that has it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

import two_processes
from bargein_protocol import SessionId
from bargein_server.cli import main
from bargein_server.endpoints.call import SESSION_HEADER
from door_agent import play
from live_server import Serving
from sse_client import Http, http
from two_processes import Pair
from waiting import until

DOORS = ["chat", "ai-sdk", "ag-ui"]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Return what runs two servers that share their sessions."""
    private = tmp_path / "w"
    private.mkdir(mode=0o700)
    return partial(two_processes.pair, private, play, doors=DOORS)


def user(text: str) -> list[dict[str, Any]]:
    """Return one message of the user, for every door."""
    return [{"id": "m", "role": "user", "content": text, "parts": [{"type": "text", "text": text}]}]


async def by_chat(client: Http, own_id: str, text: str) -> Any:
    """Ask by chat completions."""
    body = {"messages": user(text)}
    return await client.post("/v1/chat/completions", body, {"X-Conversation-Id": own_id})


async def by_ai_sdk(client: Http, own_id: str, text: str) -> Any:
    """Ask by the AI SDK."""
    return await client.post("/api/chat", {"id": own_id, "message": user(text)[0]})


async def by_ag_ui(client: Http, own_id: str, text: str) -> Any:
    """Ask by AG-UI."""
    return await client.post("/v1/ag-ui", {"threadId": own_id, "runId": "r", "messages": user(text)})


@pytest.mark.parametrize("ask", [by_chat, by_ai_sdk, by_ag_ui])
async def test_both_workers_answer_in_the_same_session(pair: Pair, ask: Any) -> None:
    """Whichever has it, for conversations of either."""
    async with pair() as (one, two), http(one) as first, http(two) as second:
        for number in range(6):
            own_id = f"conversation-{number}"
            responses = [await ask(client, own_id, "hello") for client in (first, second, first)]
            assert [response.status_code for response in responses] == [200] * 3
            sessions = {response.headers[SESSION_HEADER] for response in responses}
            assert len(sessions) == 1
            [session_id] = sessions
            having = [server.sessions.has(SessionId(session_id)) for server in (one, two)]
            assert sorted(having) == [False, True]
        assert 0 < len(one.sessions) < 6  # both have some


async def elsewhere(one: Serving, two: Serving, ask: Any) -> str:
    """Return the id of a conversation that the second worker has."""
    for number in range(50):
        response = await ask(f"conversation-{number}")
        if two.sessions.has(SessionId(response.headers[SESSION_HEADER])):
            return f"conversation-{number}"
    raise AssertionError("no conversation is at the second worker")


async def test_a_chat_is_stopped_through_another_worker(pair: Pair) -> None:
    """By the endpoint, while the stream is at its own worker."""
    async with pair() as (one, two), http(one) as first, http(two) as second:
        own_id = await elsewhere(one, two, lambda name: by_ai_sdk(first, name, "hello"))
        body = {"id": own_id, "message": user("count")[0]}
        async with second.client.stream("POST", second.base + "/api/chat", json=body) as stream:
            lines = stream.aiter_lines()
            while "text-delta" not in await anext(lines):
                pass
            stopped = await first.post(f"/api/chat/{own_id}/stop", {})
            assert stopped.json()["outcome"] == "interrupted"


async def test_a_shared_socket_serves_chats_of_another_worker(pair: Pair) -> None:
    """Their chunks come over the one socket, and an abort interrupts."""
    async with pair() as (one, two), http(one) as first:
        own_id = await elsewhere(one, two, lambda name: by_ai_sdk(first, name, "hello"))
        async with connect(f"ws://127.0.0.1:{one.port}/api/chat", proxy=None) as socket:

            async def frames(request_id: str, **sent: Any) -> list[dict[str, Any]]:
                await socket.send(json.dumps({"requestId": request_id, "id": own_id, **sent}))
                found: list[dict[str, Any]] = []
                while not found or found[-1]["type"] == "chunk":
                    found.append(json.loads(await socket.recv()))
                return found

            answered = await frames("a", type="send", messages=user("hello"))
            texts = [each["chunk"].get("delta", "") for each in answered if each["type"] == "chunk"]
            assert "".join(texts) == "You said hello."
            assert [each["sequence"] for each in answered[:-1]] == list(range(len(texts)))
            assert answered[-1]["type"] == "end"
            assert (await frames("b", type="resume"))[-1]["type"] == "no-active"
            [host] = [host for host in two.sessions if host.core.outside.turns()]
            await socket.send(
                json.dumps({"type": "send", "requestId": "c", "id": own_id, "messages": user("count")})
            )
            while "text-delta" not in str(await socket.recv()):
                pass
            await socket.send(json.dumps({"type": "abort", "requestId": "c"}))
            await until(lambda: not host.core.busy)
            end = host.core.outside.turns()[-1].fold.ended
            assert end is not None
            assert end.status == "interrupted"


@pytest.mark.parametrize("door", ["realtime", "twilio"])
def test_doors_whose_sessions_are_in_one_process_have_no_workers(
    door: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the door."""
    with pytest.raises(SystemExit):
        main(["demo", "--workers", "2", "--door", door, "--port", "0"])
    assert f"the door {door}" in capsys.readouterr().err
