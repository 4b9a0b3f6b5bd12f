"""Two servers in one event loop that share a Valkey: who gets a session, and who does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from bargein_protocol import SessionId
from bargein_server import BearerTokens, Output, Turn
from bargein_server.core.records import VERSION
from bargein_server.stores import redis_rows
from bargein_server.stores.interface import StoreError
from bargein_server.stores.redis_store import RedisStore
from bargein_server.stores.shared import MoveRequest
from bargein_server.stores.urls import store_of
from live_server import Frame, RawClient, Serving, ask, serving
from valkey_process import ValkeyProcess, valkey

pytestmark = pytest.mark.needs("valkey")

LEASE_S = 1.0


async def talk(turn: Turn) -> AsyncIterator[Output]:
    """Answer, or speak until it is cut off."""
    if turn.text == "long":
        while True:
            yield "word "
            await asyncio.sleep(0.005)
    yield f"answer to {turn.text}"


@pytest.fixture
async def valkey_server(tmp_path: Path) -> AsyncIterator[ValkeyProcess]:
    """Return a Valkey that has run for long enough to be relied on."""
    async with valkey(tmp_path / "valkey") as process:
        yield process


@pytest.fixture
async def servers(valkey_server: ValkeyProcess) -> AsyncIterator[tuple[Serving, Serving]]:
    """Return two servers that share it."""
    users = BearerTokens({"a": "ann", "b": "bob"})
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(
                serving(talk, store=valkey_server.url, authenticator=users, lease_s=LEASE_S)
            )
            for _ in range(2)
        ]
        yield one, two


def resume_of(opened: Frame, seq: int, **changed: Any) -> dict[str, Any]:
    """Return what resumes a session."""
    cursor = {"epoch": opened["epoch"], "seq": seq}
    return {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor, **changed}


async def open_at(client: RawClient, resume: dict[str, Any] | None = None, auth: str = "a") -> Frame:
    """Open or resume a session; return `session.opened`."""
    await client.send({"type": "session.open", "auth": auth, **({"resume": resume} if resume else {})})
    return await client.until("session.opened")


async def refused_with(server: Serving, resume: dict[str, Any]) -> int:
    """Try to resume a session; return the code with which the connection is closed."""
    async with server.connect() as client:
        with pytest.raises(ConnectionClosed) as closed:
            await open_at(client, resume)
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code


async def one_turn(client: RawClient, input_id: str = "i1") -> int:
    """Ask something; return the last number."""
    await ask(client, "hello", input_id)
    seq: int = (await client.until("turn.ended"))["seq"]
    return seq


async def stored(server: ValkeyProcess, session_id: str, field: str) -> str:
    """Return a field of a stored session; empty for an unknown one."""
    value = await server.do("HGET", f"bargein:{{{session_id}}}:m", field)
    return "" if value is None else str(value.decode())


async def give_to(server: ValkeyProcess, session_id: str, fence: str, lease: bool) -> None:
    """Make another node the owner of a session, one that lives and does not answer, or a dead one."""
    await server.do("HSET", f"bargein:{{{session_id}}}:m", "f", fence)
    if lease:
        name = fence.partition(".")[2]
        await server.do("SET", f"bargein:{{nodes}}:lease:{name}", json.dumps({"machine": "far", "port": 1}))


async def test_a_session_follows_its_client(servers: tuple[Serving, Serving]) -> None:
    """With its token; the connection at the other server is closed as replaced, and metrics count it."""
    one, two = servers
    async with one.connect() as line, two.connect() as client:
        opened = await open_at(line)
        seq = await one_turn(line)
        again = await open_at(client, resume_of(opened, seq))
        assert (again["resumed"], again["session_id"]) == (True, opened["session_id"])
        assert (await client.until("replay.done"))["through"] == seq
        assert (await line.closed())[0] == 4409
        assert await one_turn(client, "i2") == seq + 4


async def test_a_session_of_an_earlier_version_is_written_anew(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole, when its client comes to a newer server: no record of it keeps the form from before."""
    one, two = servers
    async with one.connect() as line, two.connect() as client:
        opened = await open_at(line)
        seq = await one_turn(line)
        key = f"bargein:{{{opened['session_id']}}}:t"
        [[turn_id, record]] = (await valkey_server.do("HGETALL", key)).items()
        await valkey_server.do("HSET", key, turn_id, record + b" ")
        await give_to(valkey_server, opened["session_id"], "7.far", lease=False)  # its owner has died
        monkeypatch.setattr(redis_rows, "VERSION", VERSION + 1)
        assert (await open_at(client, resume_of(opened, seq)))["resumed"]
        assert not (await valkey_server.do("HGET", key, turn_id)).endswith(b" ")
        assert await stored(valkey_server, opened["session_id"], "v") == str(VERSION + 1)


async def test_a_session_of_a_living_node_is_not_claimed(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess
) -> None:
    """Whether or not it answers: its client is asked to come again."""
    one, two = servers
    async with one.connect() as line:
        opened = await open_at(line)
        seq = await one_turn(line)
    await give_to(valkey_server, opened["session_id"], "7.far", lease=True)
    assert await refused_with(two, resume_of(opened, seq)) == 1013
    assert await stored(valkey_server, opened["session_id"], "f") == "7.far"


async def test_a_session_of_a_dead_node_is_claimed(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess
) -> None:
    """Its lease is over; the fence of the new owner is higher."""
    one, two = servers
    async with one.connect() as line, two.connect() as client:
        opened = await open_at(line)
        seq = await one_turn(line)
        await give_to(valkey_server, opened["session_id"], "7.far", lease=False)
        assert (await open_at(client, resume_of(opened, seq)))["resumed"]
        assert (await stored(valkey_server, opened["session_id"], "f")).startswith("8.")
        await ask_only(line)  # the old owner writes, and learns that it has lost the session
        for _ in range(100):
            await asyncio.sleep(0.02)
            if not one.sessions.has(SessionId(opened["session_id"])):
                break
        assert not one.sessions.has(SessionId(opened["session_id"]))
        assert (await line.closed())[0] == 1012


@pytest.mark.parametrize(("auth", "changed"), [("a", {"token": "guessed"}), ("b", {})])
async def test_an_owner_refuses_others(
    servers: tuple[Serving, Serving], auth: str, changed: dict[str, Any]
) -> None:
    """A wrong token or principal: the session stays, and its client notices nothing."""
    one, two = servers
    async with one.connect() as line, two.connect() as client:
        opened = await open_at(line)
        seq = await one_turn(line)
        try:
            again = await open_at(client, resume_of(opened, seq, **changed), auth)
        except ConnectionClosed as closed:
            raise AssertionError("it was asked to come again") from closed
        assert (again["resumed"], again["reason"]) == (False, "unknown_session")
        assert one.sessions.has(SessionId(opened["session_id"])), "the session was given away"
        await one_turn(line, "i2")


async def test_a_session_whose_turn_runs_stays(servers: tuple[Serving, Serving]) -> None:
    """Its connection too."""
    one, two = servers
    async with one.connect() as line:
        opened = await open_at(line)
        await ask(line, "long")
        seq = (await line.until("text.delta"))["seq"]
        assert await refused_with(two, resume_of(opened, seq)) == 1013
        await line.until("text.delta")
        await line.send({"type": "interrupt", "id": "x"})
        await line.until("turn.ended")


async def test_nobody_is_refused_by_a_store_that_forgot(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess
) -> None:
    """Living owners write their sessions anew first."""
    one, two = servers
    async with one.connect() as line, two.connect() as client:
        opened = await open_at(line)
        seq = await one_turn(line)
        await valkey_server.do("FLUSHALL")
        assert (await open_at(client, resume_of(opened, seq)))["resumed"]


async def test_idle_sessions_are_written_anew(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess
) -> None:
    """Without anything that changes in them."""
    one, _ = servers
    async with one.connect() as line:
        opened = await open_at(line)
        await one_turn(line)
        await asyncio.sleep(0.3)  # some beats, with marks
        await valkey_server.do("FLUSHALL")
        for _ in range(100):
            if await stored(valkey_server, opened["session_id"], "h"):
                break
            await asyncio.sleep(0.02)
        assert await stored(valkey_server, opened["session_id"], "h"), "the session was not written anew"


async def test_a_session_is_released_whole_to_a_store_that_forgot_it(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess
) -> None:
    """Its owner has it until the store has all of it."""
    one, two = servers
    async with one.connect() as line, two.connect() as client:
        opened = await open_at(line)
        seq = await one_turn(line)
        await valkey_server.do("FLUSHALL")
        digest = sha256(opened["token"].encode()).digest()
        assert one.sessions.restorer is not None
        request = MoveRequest("n", SessionId(opened["session_id"]), "ann", digest)
        assert await one.sessions.restorer.release(request) == "released"
        again = await open_at(client, resume_of(opened, seq))
        assert again["resumed"], again
        assert (await client.until("replay.done"))["through"] == seq


async def test_an_old_request_takes_no_session_from_a_newer_connection(
    servers: tuple[Serving, Serving],
) -> None:
    """The owner stood still meanwhile, and the client has come to it."""
    one, _ = servers
    async with one.connect() as line:
        opened = await open_at(line)
        await one_turn(line)
        digest = sha256(opened["token"].encode()).digest()
        assert one.sessions.restorer is not None
        request = MoveRequest("n", SessionId(opened["session_id"]), "ann", digest, age_s=60.0)
        assert await one.sessions.restorer.release(request) == "busy"
        await one_turn(line, "i2")


async def test_a_server_compares_before_it_refuses(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess
) -> None:
    """Its memory may be older than the store, because it stood still while another one had the session."""
    one, _ = servers
    async with one.connect() as line, one.connect() as client:
        opened = await open_at(line)
        seq = await one_turn(line)
        await give_to(valkey_server, opened["session_id"], "7.far", lease=False)
        again = await open_at(client, resume_of(opened, seq + 5))
        assert (again["resumed"], again["reason"]) == (False, "cursor_ahead")
        assert (await stored(valkey_server, opened["session_id"], "f")).startswith("8.")
        assert (await line.closed())[0] == 1012


async def test_a_store_that_is_away_makes_nothing_unknown(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it lasts: another server has the session."""
    monkeypatch.setattr("bargein_server.hosting.restoring.PATIENCE_S", 0.2)
    one, two = servers
    async with one.connect() as line:
        opened = await open_at(line)
        seq = await one_turn(line)
        await valkey_server.kill()
        await asyncio.sleep(0.5)
        assert await refused_with(two, resume_of(opened, seq)) == 1013
        await one_turn(line, "i2")


class ReadOnly(RedisStore):
    """A store that can be read and not claimed from, as one that is out of memory."""

    async def claim(self, session_id: SessionId, expected: str, writes: int, fence: str) -> bool:
        """Fail."""
        raise StoreError("full", "out of memory")


async def test_a_session_that_cannot_be_claimed_is_not_continued(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess
) -> None:
    """Two servers might do so."""
    one, _ = servers
    store = store_of(valkey_server.url)
    assert isinstance(store, RedisStore)
    async with one.connect() as line:
        opened = await open_at(line)
        seq = await one_turn(line)
    await give_to(valkey_server, opened["session_id"], "7.far", lease=False)
    users = BearerTokens({"a": "ann"})
    async with serving(talk, store=ReadOnly(store.address, 1000.0), authenticator=users) as three:
        assert await refused_with(three, resume_of(opened, seq)) == 1013


async def test_numbers_that_a_forgetful_store_lost_explain_nothing(
    servers: tuple[Serving, Serving], valkey_server: ValkeyProcess
) -> None:
    """A turn was open, but the store may lack its end: a cursor beyond is refused, and told."""
    one, two = servers
    async with one.connect() as line, two.connect() as client:
        opened = await open_at(line)
        await ask(line, "long")
        seq = (await line.until("text.delta"))["seq"]

        await asyncio.sleep(0.3)
        await give_to(valkey_server, opened["session_id"], "7.far", lease=False)
        now = (await valkey_server.do("TIME"))[0]
        await valkey_server.do("SET", "bargein:{nodes}:rollback", f"{int(now) + 1}.0", "PX", 60_000)
        again = await open_at(client, resume_of(opened, seq + 10_000))
        assert (again["resumed"], again.get("reason")) == (False, "cursor_ahead")


async def test_metrics_count_what_moves(valkey_server: ValkeyProcess) -> None:
    """Sessions that were released, claimed and lost."""
    async with AsyncExitStack() as stack:
        one, two = [
            await stack.enter_async_context(
                serving(talk, store=valkey_server.url, lease_s=LEASE_S, metrics=True)
            )
            for _ in range(2)
        ]
        async with one.connect() as line, two.connect() as client:
            opened = await open_at(line)
            seq = await one_turn(line)
            opened |= await open_at(client, resume_of(opened, seq))
            await give_to(valkey_server, opened["session_id"], "7.far", lease=False)
            async with one.connect() as third:
                assert (await open_at(third, resume_of(opened, seq)))["resumed"]
            await one_turn_or_closed(client)
        texts = [(await each.request("/metrics"))[2].decode() for each in (one, two)]
        assert "bargein_sessions_moved 1.0" in texts[0]
        assert 'bargein_sessions_claimed{why="lease"} 1.0' in texts[0]
        assert 'bargein_sessions_claimed{why="moved"} 1.0' in texts[1]
        assert 'bargein_sessions_claimed{why="free"} 0.0' in texts[1]
        assert "bargein_sessions_fenced 1.0" in texts[1]
        assert all("bargein_store_rollbacks 0.0" in text for text in texts)


async def ask_only(client: RawClient) -> None:
    """Send an input, and wait for nothing."""
    await client.send({"type": "input.text", "id": "i9", "text": "hello"})


async def one_turn_or_closed(client: RawClient) -> None:
    """Ask something; the connection is closed meanwhile."""
    with pytest.raises(ConnectionClosed):
        await one_turn(client, "i9")
