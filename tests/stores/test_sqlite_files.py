"""The files of the SQLite store: taken away in use, and errors of the system in words."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bargein_server.stores.interface import StoreError
from bargein_server.stores.schema import APPLICATION_ID, MIGRATIONS
from bargein_server.stores.sqlite import SqliteStore
from bargein_server.stores.sqlite_files import explained
from store_suite import S1, first, later, piece, turn

Harm = Callable[[Path], object]


def _replace(path: Path) -> None:
    shutil.copy(path, f"{path}.copy")
    os.replace(f"{path}.copy", path)


HARMS: dict[str, Harm] = {
    "the file is deleted": Path.unlink,
    "the file is replaced": _replace,
    "the file is emptied": lambda path: os.truncate(path, 0),
    "the log is deleted": lambda path: os.unlink(f"{path}-wal"),
    "the log is emptied": lambda path: os.truncate(f"{path}-wal", 0),
    "the log's index is deleted": lambda path: os.unlink(f"{path}-shm"),
    "the lock is deleted": lambda path: os.unlink(f"{path}-lock"),
    "the folder is moved": lambda path: path.parent.rename(path.parent.with_name("away")),
}


@pytest.fixture
def always_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each call look at the files."""
    monkeypatch.setattr("bargein_server.stores.sqlite_files.LOOK_S", -1.0)


@pytest.mark.usefixtures("always_looked")
@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
async def test_files_that_are_taken_away_are_noticed(tmp_path: Path, harm: Harm) -> None:
    """The system reports no error; without a look all that is written then is lost."""
    path = tmp_path / "folder" / "kept.db"
    store = SqliteStore(path)
    await store.open()
    await store.write([first()])
    harm(path)
    with pytest.raises(StoreError) as noticed:
        await store.write([later(1, pieces=[piece(2, "x")])])
    assert (noticed.value.kind, "stop the server first" in str(noticed.value)) == ("moved", True)
    with pytest.raises(StoreError):
        await store.read(S1)
    with pytest.raises(StoreError):
        await store.sessions(None)
    if harm is HARMS["the log is emptied"]:
        for name in ("kept.db", "kept.db-wal", "kept.db-shm"):  # a hole in it damages the database
            (path.parent / name).unlink(missing_ok=True)
    await store.open()
    await store.write([first()])
    await store.close()
    store = SqliteStore(path)
    await store.open()
    assert await store.read(S1) is not None
    await store.close()


async def test_the_files_are_looked_at_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look waits for the interpreter's lock, as often as there are files."""
    looks: list[str] = []

    def identity(name: str, database: bool) -> tuple[int, int]:
        looks.append(name)
        return (1, 1)

    monkeypatch.setattr("bargein_server.stores.sqlite_files._identity", identity)
    monkeypatch.setattr("bargein_server.stores.sqlite_files.LOOK_S", 3600.0)
    store = SqliteStore(tmp_path / "kept.db")
    await store.open()
    opened = len(looks)
    for number in range(20):
        await store.write([first(turns=[("t_1", number, turn())])])
    assert len(looks) == opened
    await store.close()


async def test_a_write_ahead_log_that_another_process_shortens_is_none_of_these(tmp_path: Path) -> None:
    """As tools for backups do: the log is empty, and whole."""
    path = tmp_path / "kept.db"
    store = SqliteStore(path)
    await store.open()
    await store.write([first()])
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    db.close()
    store._files._next = 0.0  # type: ignore[union-attr]  # look now
    assert await store.read(S1) is not None
    await store.write([later(1, pieces=[piece(2, "x")])])
    await store.close()


async def _refused(store: SqliteStore) -> StoreError:
    with pytest.raises(StoreError) as refused:
        await store.open()
    await store.close()
    return refused.value


@pytest.mark.parametrize("place", ["folder", "pipe", "device", "loop"])
async def test_something_else_in_the_place_of_the_file(tmp_path: Path, place: str) -> None:
    """The message names it, and a remedy."""
    path = tmp_path / "kept.db"
    if place == "folder":
        path.mkdir()
    elif place == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null" if place == "device" else path)
    error = await _refused(SqliteStore(path))
    assert error.kind == "unavailable"
    assert str(path) in str(error)
    assert "name another file" in str(error)


@pytest.mark.parametrize(
    ("number", "kind", "remedy"),
    [
        (errno.ENOSPC, "full", "free space"),
        (errno.EDQUOT, "full", "quota"),
        (errno.EROFS, "read_only", "allow writing"),
        (errno.EACCES, "read_only", "allow writing"),
        (errno.ENAMETOOLONG, "unavailable", "name another file"),
    ],
)
def test_errors_of_the_system_have_a_remedy(number: int, kind: str, remedy: str) -> None:
    """A file that cannot be made for want of space is told as one that cannot be written."""
    error = explained(Path("kept.db"), OSError(number, os.strerror(number), "kept.db-lock"))
    assert error.kind == kind
    assert remedy in str(error)
    assert "(kept.db-lock)" in str(error)


@pytest.mark.parametrize("version", [-1, 0, len(MIGRATIONS)])
async def test_an_empty_file_with_any_version_is_made_new(tmp_path: Path, version: int) -> None:
    """Its tables are made; a number that no version has is damage."""
    path = tmp_path / "kept.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {version}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.close()
    store = SqliteStore(path)
    if version < 0:
        assert (await _refused(store)).kind == "corrupt"
        return
    await store.open()
    await store.write([first()])
    await store.close()


async def test_no_record_is_in_an_error(tmp_path: Path) -> None:
    """SQLite's message for a damaged text repeats the text, which is a user's."""
    path = tmp_path / "kept.db"
    store = SqliteStore(path)
    await store.open()
    await store.write([first(turns=[("t_1", 1, turn(text="my secret diary"))])])
    await store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE turns SET record = CAST(CAST(record AS BLOB) || x'ff' AS TEXT)")
    db.close()
    await store.open()
    with pytest.raises(StoreError) as refused:
        await store.read(S1)
    assert refused.value.kind == "corrupt"
    assert "secret" not in str(refused.value)
    await store.close()


async def test_a_disk_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing gives up after a time, and later calls fail immediately."""
    monkeypatch.setattr("bargein_server.stores.sqlite.CLOSE_S", 0.01)
    store = SqliteStore(tmp_path / "kept.db")
    await store.open()
    thread, disk = store._thread, threading.Event()
    hanging = asyncio.ensure_future(store._call(disk.wait))
    await store.close()
    read = asyncio.ensure_future(store.read(S1))
    await asyncio.wait([read], timeout=5.0)
    assert read.done()
    assert isinstance(read.exception(), StoreError)
    disk.set()
    await hanging
    assert thread is not None
    await asyncio.to_thread(thread.join)
