"""Connections to a session that the store has, while it is read, and when it cannot be had."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from bargein_protocol import SessionId
from bargein_server.stores.interface import StoredSession, StoreError
from live_server import Frame, RawClient, Serving, ask, echo, serving
from memory_store import Kept, MemoryStore
from waiting import until


class SlowStore(MemoryStore):
    """A store whose reads wait for `go_on`."""

    def __init__(self, data: dict[SessionId, Kept]) -> None:
        super().__init__(data)
        self.go_on = asyncio.Event()
        self.reads = 0

    async def read(self, session_id: SessionId) -> StoredSession | None:
        """Return a session, when the test lets it."""
        self.reads += 1
        await self.go_on.wait()
        return await super().read(session_id)


@asynccontextmanager
async def restarted(**settings: Any) -> AsyncIterator[tuple[Serving, SlowStore, Frame]]:
    """Serve anew after one turn; yield the server, its store, and the resume of the client."""
    data: dict[SessionId, Kept] = {}
    async with serving(echo, store=MemoryStore(data)) as server, server.connect() as client:
        await client.send({"type": "session.open"})
        opened = await client.until("session.opened")
        await ask(client, "hello")
        seq = (await client.until("turn.ended"))["seq"]
    cursor = {"epoch": opened["epoch"], "seq": seq}
    resume = {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}
    store = SlowStore(data)
    async with serving(echo, store=store, **settings) as server:
        yield server, store, {"type": "session.open", "resume": resume}


async def opens(client: RawClient, store: SlowStore, opening: Frame, *more: Frame | str | bytes) -> None:
    """Send the opening, wait until the store is asked, and send more."""
    before = store.reads
    await client.send(opening)
    await until(lambda: store.reads > before, "the read")
    await client.send(*more)


async def test_frames_that_come_meanwhile_are_handled_in_order() -> None:
    """Wrong ones are answered in their place, and the session goes on."""
    async with restarted() as (server, store, opening), server.connect() as client:
        await opens(
            client,
            store,
            opening,
            {"type": "ping", "id": "a"},
            "no event",
            b"\x80",
            {"type": "ping", "id": "b"},
        )
        await client.send({"type": "ping", "id": "c"})
        store.go_on.set()
        await client.until("pong", id="c")
        told = [
            frame.get("id") or frame.get("code")
            for frame in client.frames
            if frame["type"] in ("pong", "error")
        ]
        assert told == ["a", "bad_frame", "wrong_codec", "b", "c"]
        assert client.frames[0]["resumed"]


async def test_a_flood_meanwhile_is_closed() -> None:
    """What waits is bounded by the rates of the client."""
    async with restarted(max_messages_per_s=10) as (server, store, opening), server.connect() as client:
        await opens(client, store, opening, *({"type": "ping", "id": "p"} for _ in range(40)))
        assert (await client.closed())[0] == 4429


async def test_a_client_that_leaves_meanwhile_leaves_nothing() -> None:
    """Its session stays in the store, and the next client gets it."""
    async with restarted() as (server, store, opening):
        async with server.connect() as client:
            await opens(client, store, opening)
        store.go_on.set()
        async with server.connect() as client:
            await client.send(opening)
            assert (await client.until("session.opened"))["resumed"]


async def test_two_clients_at_once_get_one_session() -> None:
    """The store is read once; the newer connection drives."""
    async with restarted() as (server, store, opening), server.connect() as one, server.connect() as two:
        await opens(one, store, opening)
        await two.send(opening)
        store.go_on.set()
        assert (await one.closed())[0] == 4409
        assert (await two.until("session.opened"))["resumed"]
        assert store.reads == 1


async def test_a_store_that_does_not_answer_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a time, as overloaded: the client comes again, and nothing is lost."""
    monkeypatch.setattr("bargein_server.hosting.restoring.PATIENCE_S", 0.05)
    async with restarted() as (server, store, opening):
        async with server.connect() as client:
            await client.send(opening)
            assert (await client.closed())[0] == 1013
        store.go_on.set()
        async with server.connect() as client:
            await client.send(opening)
            assert (await client.until("session.opened"))["resumed"]


async def test_a_full_server_restores_nothing() -> None:
    """It has no room for the session either."""
    async with restarted(max_sessions=1) as (server, store, opening), server.connect() as first:
        store.go_on.set()
        await ask(first, "hello")
        async with server.connect() as client:
            await client.send(opening)
            assert (await client.closed())[0] == 1013


async def test_a_damaged_session_counts_as_lost(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a fresh one; the log has one line."""
    async with restarted() as (server, store, opening), server.connect() as client:
        store.go_on.set()
        store.data[SessionId(opening["resume"]["session_id"])].head = b"{"
        with caplog.at_level(logging.ERROR):
            await client.send(opening)
            opened = await client.until("session.opened")
        assert (opened["resumed"], opened["reason"]) == (False, "unknown_session")
        [record] = caplog.records
        assert "is damaged and counts as lost" in record.getMessage()
        assert record.exc_info is None


async def test_a_session_on_a_damaged_page_counts_as_lost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client is not asked to come again for ever; the log has the cause, and others are stored."""
    monkeypatch.setattr("bargein_server.hosting.restoring.rare_log._next", {})
    async with restarted() as (server, store, opening), server.connect() as client:

        async def read(*_: object) -> StoredSession | None:
            raise StoreError("corrupt", "kept.db is damaged: restore a backup")

        monkeypatch.setattr(store, "read", read)
        opened: Frame | None = None
        with caplog.at_level(logging.WARNING, "bargein.store"), suppress(ConnectionClosed):
            await client.send(opening)
            opened = await client.until("session.opened")
        assert opened is not None
        assert (opened["resumed"], opened["reason"]) == (False, "unknown_session")
        assert "restore a backup" in caplog.text
        await ask(client, "hello")
        await client.until("turn.ended")
        assert opened["session_id"] in store.data


async def test_a_client_finds_that_the_file_was_taken_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is opened anew, without a write that would notice it; the client comes again."""
    monkeypatch.setattr("bargein_server.hosting.store_health.RETRY_S", 0.01)
    async with restarted() as (server, store, opening), server.connect() as client:
        opens, found = 0, StoreError("moved", "kept.db was deleted")

        async def again() -> None:
            nonlocal opens
            opens += 1

        async def read(*_: object) -> StoredSession | None:
            raise found

        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "bargein.store"):
            patch.setattr(store, "open", again)
            patch.setattr(store, "read", read)
            await client.send(opening)
            assert (await client.closed())[0] == 1013
            await until(lambda: opens > 0, "the store opened anew")
        assert "kept.db was deleted" in caplog.text
        store.go_on.set()
        async with server.connect() as client:
            await client.send(opening)
            assert (await client.until("session.opened"))["resumed"]


async def test_a_session_that_can_only_be_read_goes_on_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the claim fails, and the client resumes nevertheless."""
    async with restarted() as (server, store, opening), server.connect() as client:
        store.go_on.set()

        async def claim(*_: object) -> bool:
            raise StoreError("full", "the disk is full")

        monkeypatch.setattr(store, "claim", claim)
        await client.send(opening)
        assert (await client.until("session.opened"))["resumed"]


async def test_a_session_that_another_server_takes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client comes again, and finds it there."""
    async with restarted() as (server, store, opening), server.connect() as client:
        store.go_on.set()

        async def claim(*_: object) -> bool:
            return False

        monkeypatch.setattr(store, "claim", claim)
        await client.send(opening)
        assert (await client.closed())[0] == 1013


async def test_a_session_that_another_server_has_taken_leaves_this_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its next write shows it; the client is told to come again, and one line says why."""
    async with restarted() as (server, store, opening), server.connect() as client:
        store.go_on.set()
        await client.send(opening)
        await client.until("session.opened")
        store.data[SessionId(opening["resume"]["session_id"])].fence = "9.another"  # higher: it came later
        await client.send({"type": "input.text", "id": "i2", "text": "more"})
        assert (await client.closed())[0] == 1012
    assert [record.getMessage() for record in caplog.records if "taken over" in record.getMessage()] == [
        f"session {opening['resume']['session_id']} was taken over by another server"
    ]


async def test_a_store_that_has_forgotten_gets_everything_again() -> None:
    """A backup that was restored, for example: nobody notices."""
    async with restarted() as (server, store, opening), server.connect() as client:
        store.go_on.set()
        await client.send(opening)
        await client.until("session.opened")
        session_id = SessionId(opening["resume"]["session_id"])
        await until(lambda: store.data[session_id].fence, "the claim")
        del store.data[session_id]
        await ask(client, "more", "i2")
        await client.until("turn.ended")
        await until(lambda: session_id in store.data and len(store.data[session_id].turns) == 2, "both turns")
