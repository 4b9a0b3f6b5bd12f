"""The SQLite store: the suite of the interface, versions of the file, and what goes wrong with it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from bargein_server.stores.interface import Store, StoreError
from bargein_server.stores.schema import MIGRATIONS
from bargein_server.stores.sqlite import SqliteStore
from store_suite import *  # noqa: F403  # the tests
from store_suite import S1, MakeStore, first, later, opened, piece

VERSIONS = Path(__file__).parent / "versions"


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """Return stores of one file."""
    return lambda: SqliteStore(tmp_path / "folder" / "kept.db")


def test_there_is_a_file_of_every_version() -> None:
    """The migration of each is tested below."""
    names = sorted(path.name for path in VERSIONS.glob("*.sql"))
    assert names == [f"{version}.sql" for version in range(1, len(MIGRATIONS) + 1)]


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS) + 1))
async def test_a_file_of_an_older_version_is_brought_up(tmp_path: Path, version: int) -> None:
    """Its conversation is read as it was written."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:
        db.executescript((VERSIONS / f"{version}.sql").read_text("utf-8"))
    db.close()
    store = SqliteStore(path)
    await store.open()
    found = await store.read(S1)
    assert found is not None
    stored = found.stored
    assert (stored.head.principal, stored.seq, stored.head.metadata) == ("ann", 9, {"language": "en"})
    [(_, turn)] = stored.turns
    assert (turn.input.text, turn.stage, turn.started) == ("hello", "running", True)
    assert "".join(each.text or "" for each in stored.pieces) == "Once upon a time"
    assert [name for name, _ in stored.replies] == ["i_t_1"]
    title = "hello" if version == 1 else "A greeting"
    assert [each.title for each in await store.sessions("ann")] == [title]
    await store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    db.close()


async def _refused(store: Store) -> StoreError:
    with pytest.raises(StoreError) as refused:
        await store.open()
    await store.close()
    return refused.value


async def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    """A server that was set back does not damage it."""
    path = tmp_path / "kept.db"
    store = SqliteStore(path)
    await store.open()
    await store.close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    error = await _refused(SqliteStore(path))
    assert error.kind == "newer"
    assert "newer version of bargein" in str(error)


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """A damaged one, or a text that was named by mistake."""
    path = tmp_path / "kept.db"
    path.write_bytes(b"my diary, not a database " * 1000)
    error = await _refused(SqliteStore(path))
    assert error.kind == "corrupt"
    assert "move it away" in str(error)
    assert path.read_bytes().startswith(b"my diary")


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """Its tables are not ours."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE notes (text)")
    db.close()
    assert "another program" in str(await _refused(SqliteStore(path)))


async def test_two_servers_do_not_share_a_file(tmp_path: Path) -> None:
    """The second is refused, and gets the file when the first has ended."""
    path = tmp_path / "kept.db"
    one, two = SqliteStore(path), SqliteStore(path)
    await one.open()
    with pytest.raises(StoreError) as refused:
        await two.open()
    assert (refused.value.kind, "another server" in str(refused.value)) == ("locked", True)
    await one.close()
    await two.open()
    await two.close()


async def test_a_command_reads_and_deletes_beside_a_server(make_store: MakeStore, tmp_path: Path) -> None:
    """It takes no lock, and sees what was just written."""
    server = await opened(make_store)
    await server.write([first(pieces=[piece(2, "a")])])
    command = SqliteStore(tmp_path / "folder" / "kept.db", exclusive=False)
    await command.open()
    found = await command.read(S1)
    assert found is not None
    await server.write([later(1, pieces=[piece(3, "b")])])
    found = await command.read(S1)
    assert found is not None
    assert [each.text for each in found.stored.pieces] == ["a", "b"]
    assert await command.delete(S1)
    assert [outcome.value for outcome in await server.write([later(2, pieces=[piece(4, "c")])])] == ["closed"]
    await command.close()
    await server.close()


async def _on_thread(store: SqliteStore, statement: str) -> None:
    await store._call(lambda: store._opened().execute(statement).fetchall())


async def test_a_full_disk_is_told_and_leaves_the_file_whole(tmp_path: Path) -> None:
    """What does not fit changes nothing; reading works, and so does writing when there is room."""
    store = SqliteStore(tmp_path / "kept.db")
    await store.open()
    await store.write([first()])
    await _on_thread(store, "PRAGMA max_page_count = 1")
    with pytest.raises(StoreError) as refused:
        await store.write([later(1, pieces=[piece(2, "x" * 500_000)])])
    assert (refused.value.kind, "free space" in str(refused.value)) == ("full", True)
    found = await store.read(S1)
    assert found is not None
    assert not found.stored.pieces
    await _on_thread(store, "PRAGMA max_page_count = 100000")
    await store.write([later(1, pieces=[piece(2, "x")])])
    await store.close()


async def test_a_read_only_file_is_told(tmp_path: Path) -> None:
    """As on a disk that was mounted read-only."""
    store = SqliteStore(tmp_path / "kept.db")
    await store.open()
    await _on_thread(store, "PRAGMA query_only = 1")
    with pytest.raises(StoreError) as refused:
        await store.write([first()])
    assert (refused.value.kind, "read-only" in str(refused.value)) == ("read_only", True)
    await store.close()


async def test_a_locked_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by a backup that holds a transaction."""
    monkeypatch.setattr("bargein_server.stores.sqlite.BUSY_MS", 1)
    path = tmp_path / "kept.db"
    store = SqliteStore(path)
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError) as refused:
        await store.write([first()])
    assert refused.value.kind == "locked"
    other.execute("ROLLBACK")
    other.close()
    await store.write([first()])
    await store.close()


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The message names the file."""
    (tmp_path / "file").write_text("")
    error = await _refused(SqliteStore(tmp_path / "file" / "kept.db"))
    assert error.kind == "unavailable"
    assert "kept.db" in str(error)


async def test_conversations_are_private(make_store: MakeStore, tmp_path: Path) -> None:
    """Only their user reads the file and its folder."""
    store = await opened(make_store)
    for path, mode in ((tmp_path / "folder", 0o700), (tmp_path / "folder" / "kept.db", 0o600)):
        assert os.stat(path).st_mode & 0o777 == mode
    await store.close()


async def test_a_damaged_page_is_told(make_store: MakeStore, tmp_path: Path) -> None:
    """A file whose middle was overwritten."""
    store = await opened(make_store)
    for number in range(200):
        await store.write([first(S1, pieces=[piece(n, "x" * 1000) for n in range(number % 5)])])
    await store.close()
    path = tmp_path / "folder" / "kept.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(bytes(data))
    store = make_store()
    with pytest.raises(StoreError) as refused:
        await _use(store)
    assert refused.value.kind == "corrupt"
    await store.close()


async def _use(store: Store) -> None:
    await store.open()
    await store.read(S1)
    await store.write([first()])
