"""Servers with a store: restarts, lists, deletion, and a store that fails or is slow."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bargein_protocol import SessionId
from bargein_server import BearerTokens, Output, Turn
from bargein_server.stores.interface import StoreError
from bargein_server.stores.sqlite import SqliteStore
from live_server import Frame, RawClient, Serving, ask, counting, echo, serving
from memory_store import Kept, MemoryStore
from waiting import until

Data = dict[SessionId, Kept]


async def _open(client: RawClient, **fields: Any) -> Frame:
    await client.send({"type": "session.open", **fields})
    return await client.until("session.opened")


def _resume(opened: Frame, seq: int) -> dict[str, Any]:
    cursor = {"epoch": opened["epoch"], "seq": seq}
    return {"session_id": opened["session_id"], "token": opened["token"], "cursor": cursor}


async def _one_turn(server: Serving, **fields: Any) -> tuple[Frame, int]:
    """Open a session and ask something; return `session.opened` and the last number."""
    async with server.connect() as client:
        opened = await _open(client, **fields)
        await ask(client, "hello")
        return opened, (await client.until("turn.ended"))["seq"]


async def _health(server: Serving) -> tuple[int, dict[str, Any]]:
    status, _, body = await server.request("/readyz")
    return status, json.loads(body)


# --- restarts ---------------------------------------------------------------------------------------


async def test_a_client_resumes_after_a_restart(tmp_path: Path) -> None:
    """An empty replay, and the next turn knows the one before."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(echo, store=url) as server:
        opened, seq = await _one_turn(server)
        assert (await _health(server)) == (200, {"status": "ok", "store": "up"})
    async with serving(echo, store=url) as server, server.connect() as client:
        again = await _open(client, resume=_resume(opened, seq))
        assert (again["resumed"], again["session_id"]) == (True, opened["session_id"])
        assert (await client.until("replay.done"))["through"] == seq
        await ask(client, "again", "i2")
        ended = await client.until("turn.ended")
        assert {"role": "user", "content": "hello"} in json.loads(ended["heard"]["text"].partition("|")[2])


async def test_frames_behind_the_resume_wait_for_the_session(tmp_path: Path) -> None:
    """They are handled in order when it is there."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(echo, store=url) as server:
        opened, seq = await _one_turn(server)
    async with serving(echo, store=url) as server, server.connect() as client:
        await client.send(
            {"type": "session.open", "resume": _resume(opened, seq)},
            {"type": "ping", "id": "p"},
            {"type": "input.text", "id": "i2", "text": "at once"},
        )
        await client.until("turn.ended")
        kinds = [frame["type"] for frame in client.frames]
        assert kinds[0] == "session.opened"
        assert {"replay.done", "pong", "input.accepted"} <= set(kinds)


async def test_a_wrong_token_or_principal_gets_a_fresh_session(tmp_path: Path) -> None:
    """The owner of a stored session is not disclosed."""
    url, users = f"sqlite:///{tmp_path}/kept.db", BearerTokens({"a": "ann", "b": "bob"})
    async with serving(echo, store=url, authenticator=users) as server:
        opened, seq = await _one_turn(server, auth="a")
    async with serving(echo, store=url, authenticator=users) as server:
        for auth, token in (("b", opened["token"]), ("a", "wrong")):
            async with server.connect() as client:
                again = await _open(client, auth=auth, resume={**_resume(opened, seq), "token": token})
                assert (again["resumed"], again["reason"]) == (False, "unknown_session")
        async with server.connect() as client:
            assert (await _open(client, auth="a", resume=_resume(opened, seq)))["resumed"]


async def test_a_turn_over_http_goes_on_in_its_session_after_a_restart(tmp_path: Path) -> None:
    """`POST /v1/turns` with `resume`."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(echo, store=url) as server:
        opened, seq = await _one_turn(server)
    async with serving(echo, store=url) as server:
        body = json.dumps({"text": "again", "resume": _resume(opened, seq)}).encode()
        kind: dict[str, Any] = {"Content-Type": "application/json"}
        status, headers, content = await server.request("/v1/turns", "POST", body, **kind)
        assert (status, headers["bargein-session"]) == (200, opened["session_id"])
        assert b"turn.ended" in content


async def test_a_closed_session_is_forgotten(tmp_path: Path) -> None:
    """`session.close` ends it for good, in the store too."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(echo, store=url) as server, server.connect() as client:
        opened = await _open(client)
        await client.send({"type": "session.close"})
        await client.closed()
    async with serving(echo, store=url) as server, server.connect() as client:
        assert (await _open(client, resume=_resume(opened, 0)))["reason"] == "unknown_session"


async def test_a_session_that_left_memory_comes_back(tmp_path: Path) -> None:
    """`resume_s` bounds memory, and `keep_s` the store."""
    async with serving(echo, store=f"sqlite:///{tmp_path}/kept.db", resume_s=0.0) as server:
        opened, seq = await _one_turn(server)
        await until(lambda: not len(server.sessions), "the session to leave memory")
        async with server.connect() as client:
            assert (await _open(client, resume=_resume(opened, seq)))["resumed"]


async def test_sessions_are_kept_for_keep_s(tmp_path: Path) -> None:
    """Then their clients get fresh ones."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(echo, store=url) as server:
        opened, seq = await _one_turn(server)
    async with serving(echo, store=url, keep_s=1e-6) as server, server.connect() as client:
        assert (await _open(client, resume=_resume(opened, seq)))["reason"] == "unknown_session"


async def test_values_of_the_author_come_back(tmp_path: Path) -> None:
    """`turn.session.store`, not `turn.session.state`."""

    async def counter(turn: Turn) -> AsyncIterator[Output]:
        turn.session.store["visits"] = turn.session.store.get("visits", 0) + 1
        turn.session.state["visits"] = True
        yield f"{turn.session.store['visits']}"

    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(counter, store=url) as server:
        opened, seq = await _one_turn(server)
    async with serving(counter, store=url) as server, server.connect() as client:
        await _open(client, resume=_resume(opened, seq))
        await ask(client, "again", "i2")
        assert (await client.until("turn.ended"))["heard"]["text"] == "2"


# --- an application's list ------------------------------------------------------------------------


async def test_clients_list_read_and_delete_their_own(tmp_path: Path) -> None:
    """By principal; those of others do not exist for them."""
    url, users = f"sqlite:///{tmp_path}/kept.db", BearerTokens({"a": "ann", "b": "bob"})
    ann: dict[str, Any] = {"Authorization": "Bearer a"}
    bob: dict[str, Any] = {"Authorization": "Bearer b"}
    async with serving(echo, store=url, authenticator=users) as server:
        opened, seq = await _one_turn(server, auth="a")
        session_id = opened["session_id"]
        status, _, body = await server.request("/v1/sessions", **ann)
        [listed] = json.loads(body)["sessions"]
        assert (status, listed["session_id"], listed["title"], listed["turns"]) == (
            200,
            session_id,
            "hello",
            1,
        )
        assert json.loads((await server.request("/v1/sessions", **bob))[2])["sessions"] == []
        path = f"/v1/sessions/{session_id}"
        assert (await server.request(f"{path}/messages", **bob))[0] == 404
        assert (await server.request(path, "DELETE", **bob))[0] == 404
        messages = json.loads((await server.request(f"{path}/messages", **ann))[2])["messages"]
        assert [message["content"] for message in messages] == ["hello", "hello|[]"]
    async with serving(echo, store=url, authenticator=users) as server:
        stored = json.loads((await server.request(f"{path}/messages", **ann))[2])["messages"]
        assert stored == messages
        assert (await server.request(path, "DELETE", **ann))[0] == 204
        assert (await server.request(path, "DELETE", **ann))[0] == 404
        async with server.connect() as client:
            assert not (await _open(client, auth="a", resume=_resume(opened, seq)))["resumed"]


async def _named(server: Serving, session_id: str, body: Any, **headers: Any) -> int:
    path, headers = f"/v1/sessions/{session_id}", {"Content-Type": "application/json", **headers}
    status, _, answer = await server.request(path, "PATCH", json.dumps(body).encode(), **headers)
    assert (answer == b"") is (status == 204)
    return status


async def test_users_name_their_own(tmp_path: Path) -> None:
    """While it is in use, and after a restart; the names of others are none of their business."""
    url, users = f"sqlite:///{tmp_path}/kept.db", BearerTokens({"a": "ann", "b": "bob"})
    ann: dict[str, Any] = {"Authorization": "Bearer a"}
    bob: dict[str, Any] = {"Authorization": "Bearer b"}

    async def title(server: Serving) -> tuple[str, bool]:
        [listed] = json.loads((await server.request("/v1/sessions", **ann))[2])["sessions"]
        return listed["title"], listed["named"]

    async with serving(echo, store=url, authenticator=users) as server, server.connect() as client:
        session_id = (await _open(client, auth="a"))["session_id"]
        await ask(client, "hello")
        await client.until("turn.ended")
        assert await _named(server, session_id, {"title": " Trip  to\nŁódź "}, **ann) == 204
        await ask(client, "more", "i2")
        await client.until("turn.ended")
        assert await title(server) == ("Trip to Łódź", True)
    async with serving(echo, store=url, authenticator=users) as server:
        assert await title(server) == ("Trip to Łódź", True)
        assert await _named(server, session_id, {"title": "mine"}, **bob) == 404
        assert await _named(server, session_id, {"title": "mine"}) == 401
        assert await _named(server, "s_nobody", {"title": "mine"}, **ann) == 404
        evil = {**ann, "Origin": "https://evil.example"}
        assert await _named(server, session_id, {"title": "mine"}, **evil) == 403
        bodies: tuple[Any, ...] = ({"title": "x" * 121}, {"title": 5}, {}, [], {"title": ["x"]})
        for wrong in bodies:
            assert await _named(server, session_id, wrong, **ann) == 422
        assert await title(server) == ("Trip to Łódź", True)
        assert await _named(server, session_id, {"title": "x" * 120}, **ann) == 204
        # No terminal and no log is changed by a name; signs that join letters or emoji are part of it.
        hostile = {"title": "\x00\x1b[31mA\u200d\x9b trip\x85\x7f"}
        assert await _named(server, session_id, hostile, **ann) == 204
        assert await title(server) == ("[31mA\u200d trip", True)
        assert await _named(server, session_id, {"title": "\x00\x1b"}, **ann) == 204
        assert await title(server) == ("hello", False)
        assert await _named(server, session_id, {"title": None}, **ann) == 204
        assert await title(server) == ("hello", False)


async def test_a_name_needs_a_store_and_without_users_the_token(tmp_path: Path) -> None:
    """The session's token is proof as it is for reading and deleting."""
    async with serving(echo) as server, server.connect() as client:
        opened = await _open(client)
        headers: dict[str, Any] = {"Bargein-Session-Token": opened["token"]}
        assert await _named(server, opened["session_id"], {"title": "x"}, **headers) == 404
    async with serving(echo, store=f"sqlite:///{tmp_path}/kept.db") as server, server.connect() as client:
        opened = await _open(client)
        headers = {"Bargein-Session-Token": opened["token"]}
        assert await _named(server, opened["session_id"], {"title": "x"}, **headers) == 204
        wrong: dict[str, Any] = {"Bargein-Session-Token": "wrong"}
        assert await _named(server, opened["session_id"], {"title": "x"}, **wrong) == 404
        assert await _named(server, opened["session_id"], {"title": "x"}) == 401


async def test_deleting_a_session_in_use_closes_it(tmp_path: Path) -> None:
    """Its turn ends, and nothing of it comes back."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(counting, store=url) as server, server.connect() as client:
        opened = await _open(client)
        await ask(client)
        headers: dict[str, Any] = {"Bargein-Session-Token": opened["token"]}
        assert (await server.request(f"/v1/sessions/{opened['session_id']}", "DELETE", **headers))[0] == 204
        assert (await client.until("turn.ended"))["reason"] == "session_closed"
        assert (await client.closed())[0] == 1000
    store = SqliteStore(tmp_path / "kept.db")
    await store.open()
    assert await store.sessions(None, every=True) == []
    await store.close()


async def test_a_session_that_a_command_deletes_ends_with_its_next_write(tmp_path: Path) -> None:
    """Its client learns that it is closed, and nothing comes back."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(echo, store=url) as server, server.connect() as client:
        opened = await _open(client)
        await ask(client)
        await client.until("turn.ended")
        command = SqliteStore(tmp_path / "kept.db", exclusive=False)
        await command.open()
        assert await command.delete(SessionId(opened["session_id"]))
        await client.send({"type": "input.text", "id": "i2", "text": "again"})
        assert (await client.closed())[0] == 1000
        await until(lambda: not len(server.sessions), "the session to be forgotten")
        assert await command.sessions(None, every=True) == []
        await command.close()


async def test_a_stream_for_an_unknown_session_gets_a_fresh_one(tmp_path: Path) -> None:
    """Over HTTP as over a WebSocket."""
    async with serving(echo, store=f"sqlite:///{tmp_path}/kept.db", heartbeat_s=0.1) as server:
        resume = {"session_id": "s_unknown", "token": "t", "cursor": {"epoch": "e", "seq": 1}}
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = json.dumps({"resume": resume}).encode()
        head = (
            "POST /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"unknown_session")
        assert b"200 OK" in answer
        writer.close()


async def test_anonymous_clients_list_nothing(tmp_path: Path) -> None:
    """They would see each other's conversations; their own they read by its token."""
    async with serving(echo, store=f"sqlite:///{tmp_path}/kept.db") as server:
        assert (await server.request("/v1/sessions"))[0] == 403
        opened, _ = await _one_turn(server)
        path = f"/v1/sessions/{opened['session_id']}/messages"
        assert (await server.request(path))[0] == 401
        for token, status in ((opened["token"], 200), ("wrong", 404)):
            headers: dict[str, Any] = {"Bargein-Session-Token": token}
            assert (await server.request(path, **headers))[0] == status


async def test_lists_are_bounded(tmp_path: Path) -> None:
    """`limit` and `before` are checked, and page through all."""
    users = BearerTokens({"a": "ann"})
    ann: dict[str, Any] = {"Authorization": "Bearer a"}
    async with serving(echo, store=f"sqlite:///{tmp_path}/kept.db", authenticator=users) as server:
        for _ in range(3):
            await _one_turn(server, auth="a")
        page = json.loads((await server.request("/v1/sessions?limit=2", **ann))[2])
        rest = json.loads((await server.request(f"/v1/sessions?limit=2&before={page['before']}", **ann))[2])
        assert (len(page["sessions"]), len(rest["sessions"]), rest.get("before")) == (2, 1, None)
        for query in (
            "limit=0",
            "limit=101",
            "limit=x",
            "before=-1",
            "before=5",
            "before=1e9~s",
            "before=~s_1",
        ):
            assert (await server.request(f"/v1/sessions?{query}", **ann))[0] == 422


async def test_a_damaged_conversation_hides_no_other(tmp_path: Path) -> None:
    """It is listed without a title, and is unknown to whoever wants to read it."""
    users, path = BearerTokens({"a": "ann"}), tmp_path / "kept.db"
    ann: dict[str, Any] = {"Authorization": "Bearer a"}
    async with serving(echo, store=f"sqlite:///{path}", authenticator=users) as server:
        ids = [(await _one_turn(server, auth="a"))[0]["session_id"] for _ in range(2)]
    with sqlite3.connect(path) as db:
        db.execute("UPDATE turns SET record = '{damaged' WHERE session = ?", (ids[0],))
    db.close()
    async with serving(echo, store=f"sqlite:///{path}", authenticator=users) as server:
        listed = json.loads((await server.request("/v1/sessions", **ann))[2])["sessions"]
        assert {each["session_id"]: each["title"] for each in listed} == {ids[0]: "", ids[1]: "hello"}
        assert (await server.request(f"/v1/sessions/{ids[0]}/messages", **ann))[0] == 404
        assert (await server.request(f"/v1/sessions/{ids[1]}/messages", **ann))[0] == 200


async def test_without_a_store_nothing_is_listed() -> None:
    """The answer names the cause."""
    users = BearerTokens({"a": "ann"})
    async with serving(echo, authenticator=users) as server:
        status, _, body = await server.request("/v1/sessions", Authorization="Bearer a")
        assert (status, "no store" in json.loads(body)["message"]) == (404, True)
        assert (await _health(server)) == (200, {"status": "ok"})


# --- a store that fails -----------------------------------------------------------------------------


class Faulty:
    """A store whose calls can be made to fail or to wait."""

    def __init__(self) -> None:
        self.data: Data = {}
        self.error: StoreError | None = None
        self.store = MemoryStore(self.data, self._before)
        self.calls: list[str] = []

    def _before(self, call: str) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error


async def test_the_server_goes_on_in_memory_and_writes_everything_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line in the log, `down` in readiness, and nothing is missing afterwards."""
    monkeypatch.setattr("bargein_server.hosting.store_health.RETRY_S", 0.01)
    faulty = Faulty()
    async with serving(echo, store=faulty.store) as server, server.connect() as client:
        opened = await _open(client)
        faulty.error = StoreError("full", "kept.db cannot be used, because the disk is full: free space")
        with caplog.at_level(logging.ERROR, "bargein.store"):
            await ask(client, "one")
            await client.until("turn.ended")
            await ask(client, "two", "i2")
            await client.until("turn.ended")
            await until(lambda: faulty.calls.count("open") > 2, "a few attempts")
        [record] = caplog.records
        assert record.getMessage() == f"conversations are kept in memory only: {faulty.error}"
        assert (await _health(server)) == (200, {"status": "ok", "store": "down"})
        faulty.error = None
        await until(lambda: len(faulty.data[opened["session_id"]].turns) == 2, "the turns in the store")
        assert (await _health(server))[1]["store"] == "up"


async def test_a_deletion_that_the_store_cannot_take_yet_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is accepted, and done when the store works again."""
    monkeypatch.setattr("bargein_server.hosting.store_health.RETRY_S", 0.01)
    faulty = Faulty()
    async with serving(echo, store=faulty.store) as server, server.connect() as client:
        opened = await _open(client)
        await ask(client)
        await client.until("turn.ended")
        faulty.error = StoreError("full", "the disk is full")
        headers: dict[str, Any] = {"Bargein-Session-Token": opened["token"]}
        path = f"/v1/sessions/{opened['session_id']}"
        assert (await server.request(path, "DELETE", **headers))[0] == 202
        assert opened["session_id"] in faulty.data
        faulty.error = None
        await until(lambda: opened["session_id"] not in faulty.data, "the deletion in the store")
        assert (await server.request(path, "DELETE", **headers))[0] == 404


async def test_a_store_that_opens_and_fails_with_each_write_is_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried less and less often, and works again when it has answered a write."""
    monkeypatch.setattr("bargein_server.hosting.store_health.RETRY_S", 0.01)
    calls: list[float] = []
    broken = True

    def before(call: str) -> None:
        if call == "write" and broken:
            calls.append(asyncio.get_running_loop().time())
            raise ValueError("a fault of the store")

    data: Data = {}
    async with serving(echo, store=MemoryStore(data, before)) as server, server.connect() as client:
        with caplog.at_level(logging.INFO, "bargein.store"):
            opened = await _open(client)
            await ask(client, "one")
            await client.until("turn.ended")
            await until(lambda: len(calls) > 4, "a few attempts")
            broken = False
            await until(lambda: opened["session_id"] in data, "the session in the store")
            await until(lambda: "the store works again" in caplog.messages, "the line in the log")
        assert caplog.messages == [
            "the store failed",
            "conversations are kept in memory only: it raised ValueError",
            "the store works again",
        ]
        waits = [later - earlier for earlier, later in pairwise(calls)]
        assert all(wait >= 0.009 * 2**number for number, wait in enumerate(waits))


async def test_a_file_that_cannot_be_opened_stops_nobody(tmp_path: Path) -> None:
    """A damaged file: the server starts, serves, and refuses old sessions as unknown after a while."""
    (tmp_path / "kept.db").write_bytes(b"not a database" * 1000)
    async with serving(echo, store=f"sqlite:///{tmp_path}/kept.db") as server:
        opened, _ = await _one_turn(server)
        assert (await _health(server))[1]["store"] == "down"
        async with server.connect() as client:
            resume = {**_resume(opened, 0), "session_id": "s_of_yesterday"}
            await client.send({"type": "session.open", "resume": resume})
            assert (await client.closed())[0] == 1013
        keeper = server.sessions.keeper
        assert keeper is not None
        keeper.health._ignored_since = asyncio.get_running_loop().time() - 31.0
        async with server.connect() as client:
            assert (await _open(client, resume=resume))["reason"] == "unknown_session"


async def test_a_second_server_on_the_same_file_goes_on_in_memory(tmp_path: Path) -> None:
    """The first keeps the file."""
    url = f"sqlite:///{tmp_path}/kept.db"
    async with serving(echo, store=url) as one, serving(echo, store=url) as two:
        await _one_turn(two)
        assert [(await _health(server))[1]["store"] for server in (one, two)] == ["up", "down"]


class Stopped:
    """A SQLite store whose thread stands still while the block runs."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._go_on = threading.Event()
        self._still = threading.Event()

    def _wait(self) -> None:
        self._still.set()
        self._go_on.wait(20.0)

    async def __aenter__(self) -> None:
        task = asyncio.create_task(self._store._call(self._wait))
        await until(self._still.is_set, "the thread to stand still")
        self._task = task

    async def __aexit__(self, *error: object) -> None:
        self._go_on.set()
        await self._task


async def test_an_interrupt_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    """`interrupt.result` and `turn.ended` come while the store stands still."""
    store = SqliteStore(tmp_path / "kept.db")
    async with serving(counting, store=store, store_wait_s=1000.0) as server, server.connect() as client:
        await _open(client)
        turn = await ask(client)
        await client.until("text.delta")
        async with Stopped(store):
            await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
            assert (await client.until("interrupt.result"))["outcome"] == "interrupted"
            assert (await client.until("turn.ended"))["reason"] == "client"


async def test_an_input_is_answered_when_it_is_stored(tmp_path: Path) -> None:
    """And not before; nothing of its turn either."""
    store = SqliteStore(tmp_path / "kept.db")
    async with serving(echo, store=store, store_wait_s=1000.0) as server, server.connect() as client:
        await _open(client)
        async with Stopped(store):
            await client.send({"type": "input.text", "id": "i", "text": "hello"})
            host = next(iter(server.sessions))
            await until(lambda: host.core.persistence.changes.corked, "the input")  # type: ignore[union-attr]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.socket.recv()
        await client.until("input.accepted")
        await client.until("turn.ended")


@pytest.mark.parametrize("flush_s", [0.01, 1000.0])
async def test_output_is_written_after_store_flush_s(flush_s: float) -> None:
    """Output alone does not cause a write before that."""
    data: Data = {}

    async def speaker(turn: Turn) -> AsyncIterator[Output]:
        yield "word"
        await asyncio.Event().wait()

    store = MemoryStore(data)
    async with serving(speaker, store=store, store_flush_s=flush_s) as server, server.connect() as client:
        opened = await _open(client)
        await ask(client, "hello")
        await client.until("text.delta")
        kept = data[SessionId(opened["session_id"])]
        if flush_s < 1:
            await until(lambda: kept.pieces, "the write")
        else:
            await client.send({"type": "ping", "id": "p"})
            await client.until("pong")
            assert kept.pieces == []


async def test_nobody_waits_for_a_store_that_is_late(tmp_path: Path) -> None:
    """After `store_wait_s` the server goes on, and says so, until the store has answered."""
    store = SqliteStore(tmp_path / "kept.db")
    async with serving(echo, store=store, store_wait_s=0.05) as server, server.connect() as client:
        await _open(client)
        async with Stopped(store):
            await ask(client, "hello")
            await client.until("turn.ended")
            assert (await _health(server))[1]["store"] == "late"
        keeper = server.sessions.keeper
        assert keeper is not None
        await until(lambda: keeper.health.state.value == "up", "the store to answer")


async def test_a_tool_begins_when_that_is_stored(tmp_path: Path) -> None:
    """A call that may have taken effect is never forgotten; one that was interrupted before never begins."""
    store = SqliteStore(tmp_path / "kept.db")
    effects: list[str] = []

    async def payer(turn: Turn) -> AsyncIterator[Output]:
        call_id = turn.tools.claim()
        await turn.tools.begin(call_id, "pay", {}, background=True)
        effects.append(turn.text)
        yield "paid"
        await asyncio.Event().wait()

    async with serving(payer, store=store, store_wait_s=1000.0) as server, server.connect() as client:
        await _open(client)
        await ask(client, "one")
        await client.until("text.delta")
        host = next(iter(server.sessions))
        reading = store.read
        kept = await reading(SessionId(host.core.identity.session_id))
        assert kept is not None
        assert [call.name for call in kept.stored.turns[0][1].calls] == ["pay"]
        stopped = Stopped(store)
        async with stopped:
            await client.send({"type": "input.text", "id": "i2", "text": "two"})
            await until(lambda: host.core.busy and len(host.core._turns.turns) == 2, "the second turn")
            await asyncio.sleep(0.05)
            assert effects == ["one"]
            await client.send({"type": "interrupt", "id": "x", "input_id": "i2"})
            await client.until("interrupt.result")
        assert effects == ["one"]
        messages = host.core.side_channel.messages()
        assert messages[-2]["content"] == "cancelled: it did not begin"


async def test_a_rewind_outlives_a_restart(tmp_path: Path) -> None:
    """The dropped turn is in no history afterwards, and a resend gets the first answer."""
    url = f"sqlite:///{tmp_path}/kept.db"
    rewind = {"type": "session.rewind", "id": "r"}
    async with serving(echo, store=url) as server, server.connect() as client:
        opened = await _open(client)
        turn = await ask(client, "hello")
        await client.until("turn.ended")
        await client.send({**rewind, "turn_id": turn})
        rewound = await client.until("session.rewound")
        assert rewound["turns"] == [turn]
    async with serving(echo, store=url) as server, server.connect() as client:
        assert (await _open(client, resume=_resume(opened, rewound["seq"])))["resumed"]
        await client.send({**rewind, "turn_id": turn})
        again = await client.until("session.rewound")
        assert (again["turns"], again["duplicate"]) == ([turn], True)
        await ask(client, "again", "i2")
        assert "hello" not in (await client.until("turn.ended"))["heard"]["text"]
