"""One file of SQLite that several workers write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bargein_server import Turn
from bargein_server.hosting.host import SessionHost
from bargein_server.stores.interface import StoreError
from bargein_server.stores.sqlite import SqliteStore
from bargein_server.stores.urls import lock_of
from live_server import Frame, RawClient, ask, counting, echo
from two_processes import pair
from waiting import until


async def opened(client: RawClient) -> Frame:
    """Open a session and return `session.opened`."""
    await client.send({"type": "session.open"})
    return await client.until("session.opened")


def resume(opened: Frame, seq: int = 0) -> Frame:
    """Return the first frame of a client that comes back."""
    cursor = {"epoch": opened["epoch"], "seq": seq}
    wanted = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
    return {"type": "session.open", "resume": wanted}


def stores(tmp_path: Path) -> dict[str, Any]:
    """Return the option that gives each server a store of its own on the same file."""
    return {"store": lambda: SqliteStore(tmp_path / "kept.db", shared=True)}


async def test_a_session_of_a_dead_worker_goes_on_at_another(folder: Path, tmp_path: Path) -> None:
    """Its history is whole; then every process leads to the new owner, whose name is not in the id."""
    async with pair(folder, echo, **stores(tmp_path)) as (asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
            await ask(client)
            await client.until("turn.ended")
        for host in list(owner.sessions):  # as if its process had died: it says nothing more
            assert host.lease is not None
            assert owner.sessions.keeper is not None
            await owner.sessions.keeper.flush()
            owner.sessions.keeper.leases.pop(host.lease)
            owner.sessions.moved(host)
        await owner.node.stop()
        async with asked.connect() as client:
            await client.send(resume(session))
            again = await client.until("session.opened")
            assert again["resumed"]
            await ask(client, id="i2")
            heard = await client.until("text.delta")
            while "hello|" not in heard["text"] and "[" not in heard["text"]:
                heard = await client.until("text.delta")
            await client.until("turn.ended")
        assert len(asked.sessions) == 1


async def test_a_session_in_memory_is_not_claimed_through_the_file(folder: Path, tmp_path: Path) -> None:
    """Whoever restored it has it, also when its id names another process; the client is handed over."""
    async with pair(folder, counting, **stores(tmp_path)) as (asked, owner):
        async with owner.connect() as client:
            session = await opened(client)
            turn = await ask(client)
            await client.until("text.delta")
            foreign = f"s_00000000{session['session_id'][10:]}"
            assert owner.sessions.keeper is not None
            await owner.sessions.keeper.flush()
        # The same session under an id whose maker is gone, as after a restart.
        host = next(iter(owner.sessions))
        assert await asked.node.peers.stored_owner(session["session_id"]) == owner.node.name  # type: ignore[misc]
        assert foreign != session["session_id"]
        asked.node.peers.owner_of = lambda session_id: ""  # type: ignore[method-assign]
        async with asked.connect() as client:
            await client.send(resume(session))
            again = await client.until("session.opened")
            assert (again["resumed"], again["turn_id"]) == (True, turn)
            assert host.core.identity.session_id == session["session_id"]
            assert len(asked.sessions) == 0


def _is_idle(host: SessionHost) -> bool:
    return not host.core.busy


async def test_workers_that_write_at_the_same_time_lose_nothing(folder: Path, tmp_path: Path) -> None:
    """Each session is whole in the file, although every other write is another process's."""

    async def words(turn: Turn) -> AsyncIterator[str]:
        for n in range(60):
            yield f"{n} "
            await asyncio.sleep(0.01)

    async with pair(folder, words, store_flush_s=0.02, **stores(tmp_path)) as servers:
        sessions = []
        for server in servers:
            async with server.connect() as client:
                sessions.append(await opened(client))
                await ask(client)
        for server in servers:
            assert server.sessions.keeper is not None
            host = next(iter(server.sessions))
            await until(partial(_is_idle, host))
            await server.sessions.keeper.flush()
            assert server.sessions.keeper.health.failures == 0
        reader = SqliteStore(tmp_path / "kept.db", exclusive=False)
        await reader.open()
        for session in sessions:
            found = await reader.read(session["session_id"])
            assert found is not None
            [(_, turn)] = found.stored.turns
            assert turn.lanes[""].state.text == "".join(f"{n} " for n in range(60))
            assert found.stored.pieces == []
        await reader.close()


def test_the_lock_of_a_supervisor_keeps_other_servers_away(tmp_path: Path) -> None:
    """Workers write without one of their own; it lasts until the last of them has ended."""
    url = f"sqlite:///{tmp_path}/kept.db"
    lock = lock_of(url)
    assert lock is not None
    with pytest.raises(StoreError, match="another server"):
        lock_of(url)
    lock.close()
    again = lock_of(url)
    assert again is not None
    again.close()
    assert lock_of("none") is None
