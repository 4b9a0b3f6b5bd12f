"""A server whose way to the store is cut, while clients and other machines reach it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from bargein_protocol import Cursor, Resume, Seq, SessionId, Token
from bargein_server.cluster.place import Place, new_name
from bargein_server.hosting.restoring import NOT_NOW
from bargein_server.stores.interface import StoreError
from bargein_server.stores.redis_address import RedisAddress
from bargein_server.stores.redis_link import Command
from bargein_server.stores.redis_store import RedisStore
from live_server import Frame, RawClient, Serving, ask, echo, serving
from modelled_store import ModelledLink, modelled
from redis_model import RedisModel
from waiting import until

SECRET = b"secret of all machines"


@pytest.fixture(autouse=True)
def no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no node listen for probes: all of them are one process here."""
    monkeypatch.setattr("bargein_server.hosting.membership._machine", lambda: "")


class CutLink(ModelledLink):
    """A connection to a store that cannot be reached."""

    async def call(self, commands: Sequence[Command]) -> list[Any]:
        """Fail."""
        raise StoreError("unavailable", "it cannot be reached")


@asynccontextmanager
async def machines(folder: Path) -> AsyncIterator[tuple[RedisModel, Serving, Serving]]:
    """Run two servers on machines of their own, with one store."""
    model = RedisModel(asyncio.get_running_loop().time)
    async with AsyncExitStack() as stack:
        servers, stores = [], []
        for number in range(2):
            place = Place(new_name(), str(folder / str(number)))
            await asyncio.to_thread(os.mkdir, place.folder, 0o700)
            store = modelled(RedisStore(RedisAddress((("model", 1),)), 1000.0), model)
            stores.append(store)
            server = await stack.enter_async_context(serving(echo, place=place, store=store))
            listener = socket.create_server(("127.0.0.1", 0))
            server.node.serve_machines(listener, SECRET, f"127.0.0.1:{listener.getsockname()[1]}")
            servers.append(server)
            keeper = server.sessions.keeper
            assert keeper is not None
            await keeper.beat()
        try:
            yield model, servers[0], servers[1]
        finally:
            for store in stores:
                modelled(store, model)  # or the end would wait for it


async def cut_off(server: Serving, model: RedisModel, lease: bool = False) -> None:
    """Cut the way of a server to the store; `lease` says whether its lease is still there."""
    keeper = server.sessions.keeper
    assert keeper is not None
    assert keeper.membership is not None
    assert isinstance(keeper.store, RedisStore)
    keeper.store._writer = keeper.store._reader = CutLink(model)  # type: ignore[assignment]
    await until(lambda: keeper.health.is_ignored)
    if not lease:
        model.call(("DEL", f"bargein:{{nodes}}:lease:{keeper.membership.name}"))


async def opened(client: RawClient, session: Frame | None = None, seq: int = 0) -> Frame:
    """Open or resume a session; return `session.opened`."""
    first: Frame = {"type": "session.open"}
    if session is not None:
        cursor = {"epoch": session["epoch"], "seq": seq}
        first["resume"] = {"session_id": session["session_id"], "token": session["token"], "cursor": cursor}
    await client.send(first)
    return await client.until("session.opened")


async def goes_on(asked: Serving, session: Frame, seq: int) -> None:
    """See that a client goes on through another machine, with what only its own server has."""
    async with asked.connect() as client:
        again: Frame | None = None
        with suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(3.0):
                again = await opened(client, session, seq)
        assert again is not None, "it was not served"
        assert (again["resumed"], again["session_id"]) == (True, session["session_id"])
        await ask(client, id="later")
        assert (await client.until("turn.ended"))["status"] == "completed"
    assert asked.node.hand_over.done["pipe"] == 1
    assert not len(asked.sessions)


@pytest.mark.parametrize("lease", [True, False], ids=["with its lease", "after its lease"])
async def test_its_sessions_stay_where_they_are(tmp_path: Path, lease: bool) -> None:
    """What it has told is not in the store, so another server's records would be a lie."""
    async with machines(tmp_path) as (model, asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
            await cut_off(owner, model, lease)
            await ask(client)
            ended = await client.until("turn.ended")
        await goes_on(asked, session, ended["seq"])


async def test_a_session_that_the_store_never_had_is_found(tmp_path: Path) -> None:
    """Its id names the server that made it."""
    async with machines(tmp_path) as (model, asked, owner):
        await cut_off(owner, model)
        async with owner.connect() as client:
            session = await opened(client)
        await goes_on(asked, session, 0)


async def test_no_search_claims_what_it_still_has(tmp_path: Path) -> None:
    """Its lease may end during the search, and its client may have come back meanwhile."""
    async with machines(tmp_path) as (model, asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
        await cut_off(owner, model)
        restorer = asked.sessions.restorer
        assert restorer is not None
        cursor = Cursor(epoch=session["epoch"], seq=Seq(0))
        wanted = Resume(
            session_id=SessionId(session["session_id"]), token=Token(session["token"]), cursor=cursor
        )
        assert await restorer.restore_resumed(wanted, None) is NOT_NOW
        assert not len(asked.sessions)


async def test_one_that_does_not_answer_loses_them(tmp_path: Path) -> None:
    """It is dead, or cut off from everybody."""
    async with machines(tmp_path) as (model, asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
        await cut_off(owner, model)
        await owner.node.stop()
        async with asked.connect() as client:
            assert (await opened(client, session))["resumed"]
        assert len(asked.sessions) == 1
