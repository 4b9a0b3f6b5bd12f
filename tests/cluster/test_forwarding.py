"""Requests over HTTP that come to one process for a session of another."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from bargein_server import BearerTokens
from bargein_server.cluster import peers
from live_server import Frame, RawClient, Serving, ask
from two_processes import Pair
from waiting import until


async def opened(client: RawClient) -> Frame:
    """Open a session and return `session.opened`."""
    await client.send({"type": "session.open"})
    return await client.until("session.opened")


def secret(session: Frame) -> dict[str, str]:
    """Return the header with a session's token."""
    return {"Bargein-Session-Token": session["token"], "Content-Type": "application/json"}


async def post(server: Serving, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    """Send a JSON request; return the status and the answer."""
    status, _, content = await server.request(
        path, "POST", json.dumps(body).encode(), **{"Content-Type": "application/json", **headers}
    )
    return status, json.loads(content) if content else None


async def test_an_interrupt_by_post_reaches_the_owner(pair: Pair) -> None:
    """Its answer comes back, and the client that drives the session gets its end."""
    async with pair() as (asked, owner), owner.connect() as client:
        session = await opened(client)
        turn = await ask(client)
        path = f"/v1/sessions/{session['session_id']}/interrupt"
        status, answer = await post(asked, path, {"type": "interrupt", "id": "x"}, **secret(session))
        assert (status, answer["outcome"], answer["turn_id"]) == (200, "interrupted", turn)
        assert (await client.until("turn.ended"))["turn_id"] == turn


async def test_a_wrong_token_is_refused_as_by_the_owner(pair: Pair) -> None:
    """The answer does not tell another process's session from none."""
    async with pair() as (asked, owner), owner.connect() as client:
        session = await opened(client)
        path = f"/v1/sessions/{session['session_id']}/interrupt"
        wrong = {**secret(session), "Bargein-Session-Token": "wrong"}
        answers = [
            await post(server, path, {"type": "interrupt", "id": "x"}, **wrong) for server in (asked, owner)
        ]
        assert answers[0] == answers[1]
        assert answers[0][0] == 404


async def test_a_follower_reads_through_another_process(pair: Pair) -> None:
    """The stream goes on as the session does, and the owner forgets it when its client leaves."""
    async with pair() as (asked, owner), owner.connect() as client:
        session = await opened(client)
        await ask(client)
        path = f"/v1/sessions/{session['session_id']}/events"
        reader, writer = await asyncio.open_connection("127.0.0.1", asked.port)
        head = f"GET {path} HTTP/1.1\r\nHost: localhost:{asked.port}\r\n"
        writer.write(f"{head}Bargein-Session-Token: {session['token']}\r\n\r\n".encode())
        text = b""
        while text.count(b"event: text.delta") < 5:
            text += await asyncio.wait_for(reader.read(4096), 10)
        assert text.startswith(b"HTTP/1.1 200")
        host = next(iter(owner.sessions))
        assert len(host.followers) == 1
        writer.close()
        await until(lambda: not host.followers)


async def test_a_turn_over_http_resumes_a_session_elsewhere(pair: Pair) -> None:
    """`POST /v1/turns` with `resume` is searched before its stream begins."""
    async with pair() as (asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
        resume = {
            "session_id": session["session_id"], "token": session["token"],
            "cursor": {"epoch": session["epoch"], "seq": 0},
        }  # fmt: skip
        reader, writer = await asyncio.open_connection("127.0.0.1", asked.port)
        body = json.dumps({"text": "hello", "resume": resume}).encode()
        writer.write(
            f"POST /v1/turns HTTP/1.1\r\nHost: localhost:{asked.port}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        text = b""
        while b"event: text.delta" not in text:
            text += await asyncio.wait_for(reader.read(4096), 10)
        assert f"Bargein-Session: {session['session_id']}".lower().encode() in text.lower()
        assert b'"resumed":true' in text
        assert len(asked.sessions) == 0
        writer.close()


async def test_a_session_that_nobody_has_is_refused(pair: Pair) -> None:
    """The owner lives and does not know it: 404, as without workers."""
    async with pair() as (asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
            await client.send({"type": "session.close"})
            await client.closed()
        path = f"/v1/sessions/{session['session_id']}/interrupt"
        status, _ = await post(asked, path, {"type": "interrupt", "id": "x"}, **secret(session))
        assert status == 404


async def test_a_process_that_stands_still_is_answered_with_503(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client comes again: its session is not lost."""
    monkeypatch.setattr(peers, "ANSWER_S", 0.2)
    async with pair() as (asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
        await owner.node.stop()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(owner.node.peers.place.path))
            silent.listen()
            path = f"/v1/sessions/{session['session_id']}/interrupt"
            status, answer = await post(asked, path, {"type": "interrupt", "id": "x"}, **secret(session))
            assert (status, answer["retryable"]) == (503, True)


async def test_the_asked_process_proves_who_the_client_is(pair: Pair) -> None:
    """A request with a wrong bearer token does not get past it; a right one is the same client there."""
    tokens = BearerTokens({"secret-of-ann": "ann"})
    async with pair(authenticator=tokens) as (asked, owner):
        bearer = {"Authorization": "Bearer secret-of-ann"}
        async with owner.connect(additional_headers=bearer) as client:
            session = await opened(client)
            await ask(client)
            path = f"/v1/sessions/{session['session_id']}/interrupt"
            event = {"type": "interrupt", "id": "x"}
            wrong = {**secret(session), "Authorization": "Bearer wrong"}
            assert (await post(asked, path, event, **wrong))[0] == 401
            assert (await post(asked, path, event, **secret(session)))[0] == 401
            assert (await post(asked, path, event, **secret(session), **bearer))[0] == 200
