"""Processes on different machines, which reach each other over TCP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bargein_protocol import SessionId
from bargein_server.cluster.channel import Channel
from bargein_server.cluster.letters import HEADER, Kind, letter
from bargein_server.cluster.machine import BadPeer, machine_of
from bargein_server.cluster.proof import NotProved, check_proof, prove
from live_server import Frame, RawClient, Serving, ask
from two_processes import Pair
from waiting import until

SECRET = b"secret of all machines"


async def opened(client: RawClient) -> Frame:
    """Open a session and return `session.opened`."""
    await client.send({"type": "session.open"})
    return await client.until("session.opened")


def resume(opened: Frame, seq: int = 0) -> Frame:
    """Return the first frame of a client that comes back."""
    cursor = {"epoch": opened["epoch"], "seq": seq}
    wanted = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
    return {"type": "session.open", "resume": wanted}


@asynccontextmanager
async def machines(
    pair: Pair, secret: bytes = SECRET, theirs: bytes = SECRET
) -> AsyncIterator[tuple[Serving, Serving]]:
    """Run two servers that know each other by a TCP address alone."""
    async with pair() as (asked, owner):
        listener = socket.create_server(("127.0.0.1", 0))
        address = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
        owner.node.serve_machines(listener, theirs, "")
        asked.node.peers.secret = secret

        async def stored_owner(session_id: SessionId) -> str:
            return address

        asked.node.peers.owner_of = lambda session_id: ""  # type: ignore[method-assign]
        asked.node.may_have = lambda session_id: True  # type: ignore[method-assign]
        asked.node.peers.stored_owner = stored_owner
        yield asked, owner


STORE = "redis://store.internal"
WITH_SECRET = {"BARGEIN_PEER_SECRET": "0123456789abcdef"}


def test_each_worker_has_an_address_of_its_own() -> None:
    """Two for each number, because the worker that takes its place serves before it ends."""
    machine = machine_of("10.0.0.5:9000", STORE, WITH_SECRET)
    assert machine is not None
    assert [machine.address_at(column) for column in (0, 3)] == ["10.0.0.5:9000", "10.0.0.5:9003"]
    assert machine_of(None, STORE, {}) is None


@pytest.mark.parametrize(
    ("peer", "store", "environment", "message"),
    [
        ("10.0.0.5", STORE, WITH_SECRET, "expected --peer HOST:PORT"),
        ("10.0.0.5:99999", STORE, WITH_SECRET, "expected --peer HOST:PORT"),
        ("10.0.0.5:9000", "sqlite:///kept.db", WITH_SECRET, "give --store redis"),
        ("10.0.0.5:9000", STORE, {}, "set BARGEIN_PEER_SECRET"),
        ("10.0.0.5:9000", STORE, {"BARGEIN_PEER_SECRET": "short"}, "at least 16 random characters"),
    ],
)
def test_a_wrong_peer_says_what_is_wrong(
    peer: str, store: str, environment: dict[str, str], message: str
) -> None:
    """In one sentence with the remedy, before anything is started."""
    with pytest.raises(BadPeer, match=message):
        machine_of(peer, store, environment)


async def test_a_turn_goes_on_through_a_pipe_between_machines(pair: Pair) -> None:
    """The client resumes elsewhere, hears the next word, and its interrupt ends the turn."""
    async with machines(pair) as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
            turn = await ask(first)
            seen = await first.until("text.delta")
        async with asked.connect() as second:
            await second.send(resume(session, seen["seq"]))
            again = await second.until("session.opened")
            assert (again["resumed"], again["turn_id"]) == (True, turn)
            assert (await second.until("text.delta"))["seq"] == seen["seq"] + 1
            await second.send({"type": "interrupt", "id": "x", "turn_id": turn})
            assert (await second.until("interrupt.result"))["outcome"] == "interrupted"
            assert (await second.receive())["type"] == "turn.ended"
            assert asked.node.hand_over.done == {"socket": 0, "pipe": 1}
        await until(lambda: not asked.node.hand_over.pipes)


async def test_an_idle_session_is_not_served_through_a_pipe(pair: Pair) -> None:
    """It moves through the store instead; without one, as here, it is unknown."""
    async with machines(pair) as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
        async with asked.connect() as second:
            await second.send(resume(session))
            assert not (await second.until("session.opened"))["resumed"]
            assert asked.node.hand_over.done["pipe"] == 0


async def test_a_machine_without_the_secret_gets_nothing(pair: Pair) -> None:
    """Neither end serves the other; the client comes again, because its session may live."""
    async with machines(pair, secret=b"another") as (asked, owner):
        async with owner.connect() as first:
            session = await opened(first)
            await ask(first)
            async with asked.connect() as second:
                await second.send(resume(session))
                assert (await second.closed())[0] == 1013
            await first.until("text.delta")


async def both(secret: bytes, theirs: bytes) -> list[object]:
    """Let two ends prove their secrets; return the errors."""
    one, two = (Channel(sock) for sock in socket.socketpair())
    try:
        async with asyncio.timeout(5):
            proving = asyncio.ensure_future(_ended(prove(one, secret), one))
            checking = asyncio.ensure_future(_ended(check_proof(two, theirs), two))
            return [await proving, await checking]
    finally:
        one.close()
        two.close()


async def _ended(work: object, channel: Channel) -> object:
    try:
        await work  # type: ignore[misc]
    except (NotProved, OSError) as error:
        channel.close()
        return type(error)
    return None


async def test_both_ends_prove_the_secret() -> None:
    """The asking end refuses an owner without it, and says nothing that proves its own."""
    assert await both(SECRET, SECRET) == [None, None]
    assert (await both(SECRET, b"another"))[0] is NotProved


@pytest.mark.parametrize(
    "sent",
    [
        letter(Kind.REQUEST, b"x" * 32),
        letter(Kind.PROOF, b"short"),
        HEADER.pack(2**31, Kind.PROOF),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
async def test_a_stranger_is_refused_before_anything_is_read(sent: bytes) -> None:
    """A request without a proof, too much, or another protocol."""
    one, two = (Channel(sock) for sock in socket.socketpair())
    await one.send(sent)
    with pytest.raises(NotProved):
        async with asyncio.timeout(5):
            await check_proof(two, SECRET)
    one.close()
    two.close()


async def test_a_recorded_proof_is_not_valid_again() -> None:
    """Each side's proof covers fresh bytes of the other."""
    one, two = (Channel(sock) for sock in socket.socketpair())
    checking = asyncio.ensure_future(check_proof(two, SECRET))
    await one.send(letter(Kind.PROOF, bytes(32)) + letter(Kind.PROOF, bytes(32)))
    with pytest.raises(NotProved):
        await checking
    one.close()
    two.close()
