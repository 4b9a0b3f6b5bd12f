"""A client that comes to one process for a session of another."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from bargein_protocol import SessionId
from bargein_server import AccessRequest, Output, Principal, Turn
from bargein_server.cluster import node, peers
from bargein_server.cluster.channel import Channel
from bargein_server.cluster.handover import AT_ONCE_S
from bargein_server.cluster.letters import Client, Kind, Resume, answer_of, encoded
from live_server import Frame, RawClient, Serving, WireKind, ask, echo
from raw_websocket import frame, upgraded
from two_processes import Pair
from waiting import until

BOTH = pytest.mark.parametrize(
    ("wire", "how"), [("transport", "socket"), ("asgi", "pipe")], ids=["socket", "pipe"]
)


def resume(opened: Frame, seq: int = 0) -> Frame:
    """Return the first frame of a client that comes back."""
    cursor = {"epoch": opened["epoch"], "seq": seq}
    wanted = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
    return {"type": "session.open", "resume": wanted}


async def opened(client: RawClient) -> Frame:
    """Open a session and return `session.opened`."""
    await client.send({"type": "session.open"})
    return await client.until("session.opened")


@BOTH
async def test_the_owner_serves_a_client_that_came_elsewhere(pair: Pair, wire: WireKind, how: str) -> None:
    """It resumes, hears the turn go on, and its interrupt ends it there."""
    async with pair(asked_wire=wire) as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
            turn = await ask(first)
            seen = await first.until("text.delta")
        async with asked.connect() as second:
            await second.send(resume(session, seen["seq"]))
            again = await second.until("session.opened")
            assert (again["resumed"], again["turn_id"]) == (True, turn)
            later = await second.until("text.delta")
            assert later["seq"] == seen["seq"] + 1
            await second.send({"type": "interrupt", "id": "x", "turn_id": turn})
            result = await second.until("interrupt.result")
            ended = await second.receive()
            assert (result["outcome"], ended["type"]) == ("interrupted", "turn.ended")
            await until(lambda: asked.node.hand_over.done[how] == 1)
            assert len(owner.sessions) == 1
            assert len(asked.sessions) == 0


@BOTH
async def test_the_claims_of_a_principal_come_along(pair: Pair, wire: WireKind, how: str) -> None:
    """Those that are values; the others stay at the process that has authenticated the client."""

    async def whoami(turn: Turn) -> AsyncIterator[Output]:
        assert turn.principal is not None
        yield f"{turn.principal} {dict(turn.principal.claims)}"

    async def check(request: AccessRequest) -> Principal | None:
        return (
            Principal(request.credential, {"plan": ["pro"], "row": object()}) if request.credential else None
        )

    async with pair(agent=whoami, asked_wire=wire, authenticator=check) as (asked, owner):
        async with owner.connect() as first:
            await first.send({"type": "session.open", "auth": "ann"})
            session = await first.until("session.opened")
        async with asked.connect() as second:
            await second.send({**resume(session), "auth": "ann"})
            assert (await second.until("session.opened"))["resumed"]
            await ask(second)
            assert (await second.until("turn.ended"))["heard"]["text"] == "ann {'plan': ['pro']}"
            assert asked.node.hand_over.done[how] == 1


@BOTH
async def test_connections_count_where_they_are_served(pair: Pair, wire: WireKind, how: str) -> None:
    """A socket counts at its new process; a pipe counts at both, which hold it; afterwards none counts."""
    async with pair(asked_wire=wire) as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        async with asked.connect() as second:
            await second.send(resume(session))
            await second.until("replay.done")
            counts = (0, 1) if how == "socket" else (1, 1)
            await until(lambda: _counts(asked, owner) == counts)
        await until(lambda: _counts(asked, owner) == (0, 0))
        assert not asked.node.hand_over.pipes
        host = next(iter(owner.sessions))
        await until(lambda: host.connection is None)


def _counts(*servers: Serving) -> tuple[int, ...]:
    return tuple(len(server.app.state.admission.connections) for server in servers)


@BOTH
async def test_messages_that_come_meanwhile_keep_their_order(pair: Pair, wire: WireKind, how: str) -> None:
    """Inputs behind the first frame wait for the session, and get their turns in order."""
    async with pair(echo, asked_wire=wire) as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        async with asked.connect() as second:
            inputs = [
                {"type": "input.text", "id": f"i{n}", "text": f"{n}", "on_busy": "queue"} for n in range(5)
            ]
            await second.send(resume(session), *inputs)
            ends = [await second.until("turn.ended") for _ in inputs]
            assert [end["status"] for end in ends] == ["completed"] * 5
            texts = "".join(f["text"] for f in second.frames if f["type"] == "text.delta")
            assert [texts.index(f"{n}|") for n in range(5)] == sorted(texts.index(f"{n}|") for n in range(5))


@BOTH
async def test_a_session_that_has_ended_is_told_by_the_asked_process(
    pair: Pair, wire: WireKind, how: str
) -> None:
    """The owner lives and does not know it: the client gets a fresh session where it is."""
    async with pair(asked_wire=wire) as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
            await first.send({"type": "session.close"})
            await first.closed()
        async with asked.connect() as second:
            await second.send(resume(session))
            fresh = await second.until("session.opened")
            assert (fresh["resumed"], fresh["reason"]) == (False, "unknown_session")
            await ask(second)
            await second.until("text.delta")


async def test_a_wrong_token_is_refused_by_the_owner(pair: Pair) -> None:
    """The session lives on, and its client is not disturbed."""
    async with pair() as (asked, owner), owner.connect() as first:
        session = await opened(first)
        async with asked.connect() as thief:
            await thief.send(resume({**session, "token": "wrong"}))
            fresh = await thief.until("session.opened")
            assert (fresh["resumed"], fresh["reason"]) == (False, "bad_token")
        await ask(first)
        await first.until("text.delta")


async def test_a_process_that_is_gone_leaves_its_sessions_unknown(pair: Pair) -> None:
    """Its socket refuses, so the client is told at once."""
    async with pair() as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        await owner.node.stop()
        with socket.socket(socket.AF_UNIX) as left:  # as a killed process leaves it
            left.bind(str(owner.node._place.path))
            async with asked.connect() as second:
                await second.send(resume(session))
                fresh = await second.until("session.opened")
                assert (fresh["resumed"], fresh["reason"]) == (False, "unknown_session")


@BOTH
async def test_a_process_that_stands_still_loses_no_session(
    pair: Pair, wire: WireKind, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is asked to come again: never `unknown_session` while the owner lives."""
    monkeypatch.setattr(peers, "ANSWER_S", 0.2)
    async with pair(asked_wire=wire) as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        await owner.node.stop()
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(owner.node._place.path))
            silent.listen()
            async with asked.connect() as second:
                await second.send(resume(session))
                if how == "pipe":
                    assert (await second.closed())[0] == 1013
                else:  # nobody may use a socket that two processes may have
                    assert (await second.closed())[0] == 1006


async def test_half_a_frame_is_not_lost(pair: Pair) -> None:
    """A socket is not handed over in the middle of a frame: a pipe takes its place."""
    async with pair(echo) as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        async with upgraded(asked) as (reader, writer):
            whole = frame(1, b'{"type": "input.text", "id": "i1", "text": "hello"}')
            writer.write(frame(1, json.dumps(resume(session)).encode()) + whole[:10])
            await until(lambda: asked.node.hand_over.done["pipe"] == 1)
            writer.write(whole[10:])
            await asyncio.wait_for(_read_until(reader, b"hello|"), 10)


async def _read_until(reader: asyncio.StreamReader, part: bytes) -> None:
    data = b""
    while part not in data:
        data += await reader.read(4096)


async def test_bytes_that_were_read_ahead_go_along(pair: Pair) -> None:
    """More than one read can parse, behind the first frame: all of it takes effect at the owner."""
    async with pair(echo) as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        async with asked.connect() as second:
            many: list[Any] = [{"type": "ping", "id": f"p{n}"} for n in range(60)]
            await second.send(resume(session), *many)
            pongs = [(await second.until("pong"))["id"] for _ in many]
            assert pongs == [f"p{n}" for n in range(60)]


async def test_a_client_that_does_not_read_pauses_the_owner_through_a_pipe(pair: Pair) -> None:
    """The agent is not pulled for ever into buffers, so an interrupt purges what waits."""

    async def flood(turn: Any) -> Any:
        while True:
            yield "x" * 1000

    async with pair(flood, asked_wire="asgi") as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        async with asked.connect(max_queue=1) as second:
            await second.send(resume(session))
            await second.until("replay.done")
            turn = await ask(second)
            host = next(iter(owner.sessions))
            await until(lambda: host.full)
            await second.send({"type": "interrupt", "id": "x", "turn_id": turn})
            await second.until("interrupt.result")
            ended = await second.until("turn.ended")
            assert ended["reason"] == "client"


async def test_the_owner_closes_through_a_pipe_with_its_code(pair: Pair) -> None:
    """A newer connection at the owner replaces the piped one, whose client must not come back."""
    async with pair(asked_wire="asgi") as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        async with asked.connect() as second:
            await second.send(resume(session))
            again = await second.until("session.opened")
            async with owner.connect() as third:
                await third.send(resume({**session, **again}))
                assert (await third.until("session.opened"))["resumed"]
                assert (await second.closed())[0] == 4409
            await until(lambda: not asked.node.hand_over.pipes)


async def test_an_owner_that_dies_lets_the_piped_client_come_back(pair: Pair) -> None:
    """1012 asks it to resume."""
    async with pair(asked_wire="asgi") as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        async with asked.connect() as second:
            await second.send(resume(session))
            await second.until("replay.done")
            [relay] = asked.node.hand_over.pipes
            relay.link.abort()
            assert (await second.closed())[0] == 1012


async def hand_over(asked: Serving, owner: Serving, session: Frame) -> Channel:
    """Ask the owner to serve a client that has just come; return the channel with its answer."""
    channel = await asked.node.peers.dial(owner.node.name)
    assert channel is not None
    opening = json.dumps(resume(session)).encode()
    client = Client(None, True, "192.0.2.1", {})
    request = Resume(SessionId(session["session_id"]), opening, False, client, 0.0, False, answers_age=True)
    await channel.send(encoded(Kind.REQUEST, request))
    return channel


async def test_a_request_that_has_waited_replaces_no_newer_client(pair: Pair) -> None:
    """The owner may have stood still since it was sent, so it asks for the age of its client now."""
    async with pair(echo) as (asked, owner), owner.connect() as newer:
        session = await opened(newer)
        with closing(await hand_over(asked, owner, session)) as channel:
            assert (await channel.receive())[0] == Kind.AGE
            await channel.send(encoded(Kind.AGE, 60.0))
            assert answer_of(*(await channel.receive())[:2]).mine
            kind, code, _ = await channel.receive()
            assert (kind, code) == (Kind.CLOSE, b"4409")
        await ask(newer)
        assert (await newer.until("turn.ended"))["status"] == "completed"


async def test_an_age_that_has_waited_is_asked_for_again(pair: Pair) -> None:
    """The owner may have stood still since the other process told it."""
    async with pair() as (asked, owner), owner.connect() as newer:
        session = await opened(newer)
        with closing(await hand_over(asked, owner, session)) as channel:
            assert (await channel.receive())[0] == Kind.AGE
            time.sleep(AT_ONCE_S + 0.05)  # noqa: ASYNC251 - the owner, in this process, stands still
            await channel.send(encoded(Kind.AGE, 0.0))
            assert (await channel.receive())[0] == Kind.AGE
            await channel.send(encoded(Kind.AGE, 60.0))
            assert answer_of(*(await channel.receive())[:2]).mine
            assert (await channel.receive())[0] == Kind.CLOSE


async def test_a_client_given_up_replaces_nobody(pair: Pair) -> None:
    """The process that has asked for it does not answer any more."""
    async with pair(echo) as (asked, owner), owner.connect() as newer:
        session = await opened(newer)
        with closing(await hand_over(asked, owner, session)) as channel:
            assert (await channel.receive())[0] == Kind.AGE
        await ask(newer)
        assert (await newer.until("turn.ended"))["status"] == "completed"
        assert not owner.node.hand_over.served


async def test_a_process_that_does_not_read_keeps_no_client_at_the_end(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ends waits for a bounded time, and nothing is left of the client then."""

    async def flood(turn: Turn) -> AsyncIterator[Output]:
        while True:
            yield "x" * 100_000
            await asyncio.sleep(0)

    monkeypatch.setattr(node, "LEAVES_S", 0.05)
    async with pair(flood, drain_s=0.0) as (asked, owner), owner.connect() as first:
        session = await opened(first)
        await ask(first)
        with closing(await hand_over(asked, owner, session)) as channel:
            assert (await channel.receive())[0] == Kind.AGE
            await channel.send(encoded(Kind.AGE, 0.0))
            [(left, wire)] = await until(lambda: list(owner.node.hand_over.served.items()))
            await until(lambda: hasattr(wire, "link") and not wire.link.writable)
            await owner.node.stop()
            _, waiting = await asyncio.wait([left], timeout=1.0)
            assert not waiting


async def test_a_process_of_another_user_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets no answer, so it learns nothing of any session."""
    async with pair() as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        monkeypatch.setattr(Channel, "is_trusted", False)
        async with asked.connect() as second:
            await second.send(resume(session))
            assert (await second.closed())[0] == 1006
