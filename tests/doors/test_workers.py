"""Doors at several workers: a request of a conversation is answered by the worker that has it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import two_processes
from bargein_client import connect as connect_client
from bargein_client import open_conversation
from bargein_protocol import SessionId
from bargein_server.endpoints.call import SESSION_HEADER, TOKEN_HEADER
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


async def test_our_own_clients_go_on_through_any_worker(pair: Pair) -> None:
    """They open a conversation through one and connect to another, whichever has it."""
    async with pair() as (one, two), http(one) as first:
        for number in range(4):
            asked = await by_chat(first, f"conversation-{number}", "hello")
            session_id, token = asked.headers[SESSION_HEADER], asked.headers[TOKEN_HEADER]
            for turns, (opens, connects) in enumerate(((one, two), (two, one), (two, two)), 1):
                way = await open_conversation(opens.url, session_id, session_token=token)
                async with connect_client(connects.url, resume=way.resume) as session:
                    assert [state.status for state in session.history] == ["completed"] * turns
                    assert (await session.send("again").ended()).status == "completed"
                    state = session.resume_state()
                assert state is not None
                token = state.token


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


async def open_realtime(server: Serving, conversation: str, **options: Any) -> ClientConnection:
    """Connect as a Realtime client, and take `session.created`."""
    url = f"ws://127.0.0.1:{server.port}/v1/realtime?conversation={conversation}"
    socket = await connect(url, proxy=None, **options)
    assert json.loads(await socket.recv())["type"] == "session.created"
    return socket


async def send_realtime(socket: ClientConnection, text: str) -> None:
    """Ask for a response to a text."""
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    await socket.send(json.dumps({"type": "conversation.item.create", "item": item}))
    await socket.send(json.dumps({"type": "response.create"}))


async def until_realtime(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """Take events until one of a kind."""
    while True:
        event: dict[str, Any] = json.loads(await socket.recv())
        if event["type"] == kind:
            return event


async def of_second(one: Serving, two: Serving) -> str:
    """Return the id of a Realtime conversation that the second worker has."""
    for number in range(50):
        socket = await open_realtime(one, f"talk-{number}")
        assert socket.response is not None
        session_id = SessionId(socket.response.headers[SESSION_HEADER])
        await socket.close()
        if two.sessions.has(session_id):
            assert not one.sessions.has(session_id)
            return f"talk-{number}"
    raise AssertionError("no conversation is at the second worker")


async def test_a_realtime_client_reaches_its_conversation_at_another_worker(pair: Pair) -> None:
    """It talks there, interrupts, and its later connections at either worker go on with it."""
    async with pair(doors=[*DOORS, "realtime"]) as (one, two):
        conversation = await of_second(one, two)
        through, direct = await open_realtime(one, conversation), None
        await send_realtime(through, "hello")
        response = (await until_realtime(through, "response.done"))["response"]
        assert response["status"] == "completed"
        await send_realtime(through, "count")
        await until_realtime(through, "response.output_text.delta")
        await through.send(json.dumps({"type": "response.cancel"}))
        assert (await until_realtime(through, "response.done"))["response"]["status"] == "cancelled"
        direct = await open_realtime(two, conversation)
        assert direct.response is not None
        with pytest.raises(ConnectionClosed) as closed:  # the newest connection drives the conversation
            await until_realtime(through, "never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4409
        await send_realtime(direct, "hello")
        await until_realtime(direct, "response.done")
        [host] = [host for host in two.sessions if len(host.core.outside.turns()) == 3]
        await direct.close()
        await until(lambda: host.connection is None)


async def test_a_realtime_client_is_refused_by_the_owner(pair: Pair) -> None:
    """With its status and its reason, as by a single process."""
    async with pair(doors=[*DOORS, "realtime"]) as (one, two):
        conversation = await of_second(one, two)
        two.sessions.draining = True
        with pytest.raises(InvalidStatus) as refused:
            await open_realtime(one, conversation)
        assert refused.value.response.status_code == 503
        assert b"shutting down" in (refused.value.response.body or b"")
        two.sessions.draining = False
