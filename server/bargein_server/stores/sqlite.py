"""Store in one SQLite file, without a server.

One thread owns the connection and does one call after the other. A batch of writes is one transaction of
the write-ahead log: a killed process loses nothing of it. `synchronous=full` also waits for the disk, so
that a power cut loses nothing either; without it a power cut may lose the last seconds.

One server uses a file at a time: it holds the lock of the file `…-lock` beside it, which the system
releases when the process ends, however it ends. Commands read the file meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Literal, TypeVar

import msgspec

from bargein_protocol import SessionId

from . import schema
from .interface import ListPlace, Outcome, StoredSession, StoreError, Summary, Write
from .sqlite_tables import REMEMBERED_REPLIES, Owned, PieceRows, delete_parts, read, write

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:
    _CAN_LOCK = False  # on Windows
else:
    _CAN_LOCK = True

T = TypeVar("T")

BUSY_MS = 1000
"""Time that a call waits for another process, such as a backup, to unlock the file."""

TOMBSTONE_S = 3600.0
"""Time for which a deleted session cannot be written by an owner that has not noticed."""

_KINDS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("full", "the disk is full: free space"),
    sqlite3.SQLITE_BUSY: ("locked", "another process has locked it: end that process"),
    sqlite3.SQLITE_LOCKED: ("locked", "another process has locked it: end that process"),
    sqlite3.SQLITE_READONLY: ("read_only", "it is read-only: allow writing to it and to its folder"),
    sqlite3.SQLITE_PERM: ("read_only", "it may not be written: change its permissions"),
    sqlite3.SQLITE_CANTOPEN: ("unavailable", "it cannot be opened: check its folder and its permissions"),
    sqlite3.SQLITE_CORRUPT: ("corrupt", "it is damaged: restore a backup, or move it away"),
    sqlite3.SQLITE_NOTADB: ("corrupt", "it is not a database: move it away, or name another file"),
}

Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


def locked(path: Path) -> IO[bytes] | None:
    """Return the locked file beside a store; None where locks are missing.

    The lock lasts until the file is closed in all processes that have inherited it.

    Raises:
        OSError: The file cannot be opened.
        StoreError: Another server has it.
    """
    if not _CAN_LOCK:
        return None
    lock = open(f"{path}-lock", "ab")  # noqa: SIM115  # it is held for as long as the file is open
    try:
        flock(lock, LOCK_EX | LOCK_NB)
    except OSError:
        lock.close()
        raise StoreError(
            "locked",
            f"{path} is used by another server: give this one another, such as --store sqlite:///other.db",
        ) from None
    return lock


class SqliteStore:
    """Store in one SQLite file; implements `Store`.

    Args:
        path: The file; it and its folder are made when they do not exist.
        synchronous: Whether a write waits until the disk has it (`full`), or the system only (`normal`).
        exclusive: Whether to lock the file against other servers; a command only reads and deletes.
        shared: Whether other workers of this server write it as well; their supervisor holds the lock.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        synchronous: Literal["normal", "full"] = "normal",
        exclusive: bool = True,
        shared: bool = False,
    ) -> None:
        self.path = Path(path)
        self._synchronous = synchronous
        self._exclusive = exclusive
        self._db: sqlite3.Connection | None = None
        self._pieces: PieceRows | None = None
        self._shared = shared
        self._owned = Owned(shared)
        self._lock: IO[bytes] | None = None
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __str__(self) -> str:
        return str(self.path)

    # --- the interface ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Open the file and bring it to the current version."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="bargein store", daemon=True)
            self._thread.start()
        await self._call(self._open)

    async def write(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write a batch in one transaction."""
        return await self._call(
            lambda: self._transaction(lambda db: write(db, self._rows(), self._owned, writes))
        )

    async def read(self, session_id: SessionId) -> StoredSession | None:
        """Return a session."""
        return await self._call(lambda: read(self._opened(), self._fresh_rows([session_id]), session_id))

    async def claim(self, session_id: SessionId, expected: str, writes: int, fence: str) -> bool:
        """Change the owner of a session that is still as it was read."""

        def change(db: sqlite3.Connection) -> bool:
            self._owned.forget()
            self._fresh_rows([session_id])
            statement = "UPDATE sessions SET fence = ?, clean = 0 WHERE id = ? AND fence = ? AND writes = ?"
            return db.execute(statement, (fence, session_id, expected, writes)).rowcount == 1

        return await self._call(lambda: self._transaction(change))

    async def sessions(
        self,
        principal: str | None,
        *,
        every: bool = False,
        limit: int = 100,
        before: ListPlace | None = None,
    ) -> list[Summary]:
        """Return sessions, the last used first."""
        until = before if before is not None else (sys.float_info.max, "")

        def select() -> list[Summary]:
            statement = schema.LIST.format(whose="(? IS NULL OR 1)" if every else "s.principal IS ?")
            rows = self._opened().execute(statement, (principal, *until, limit)).fetchall()
            return [
                Summary(
                    session_id=SessionId(row[0]), principal=row[1], created_at=row[2], used_at=row[3],
                    title=row[4] if row[6] is None else row[6], named=row[6] is not None, turns=row[5],
                )
                for row in rows
            ]  # fmt: skip

        return await self._call(select)

    async def rename(self, session_id: SessionId, name: str | None) -> bool:
        """Name a session."""
        statement = "UPDATE sessions SET name = ? WHERE id = ?"
        return await self._call(
            lambda: self._transaction(lambda db: db.execute(statement, (name, session_id)).rowcount == 1)
        )

    async def delete(self, session_id: SessionId) -> bool:
        """Forget a session for good."""

        def remove(db: sqlite3.Connection) -> bool:
            db.execute("INSERT OR REPLACE INTO closed (id, at) VALUES (?, ?)", (session_id, time.time()))
            delete_parts(db, self._fresh_rows([session_id]), [session_id])
            self._owned.forget()
            return db.execute("DELETE FROM sessions WHERE id = ?", (session_id,)).rowcount == 1

        return await self._call(lambda: self._transaction(remove))

    async def sweep(self, used_before: float, living: Sequence[SessionId]) -> int:
        """Forget sessions that were last used before a time, and old answers."""

        def remove(db: sqlite3.Connection) -> int:
            kept = msgspec.json.encode(list(living)).decode()
            old = "SELECT id FROM sessions WHERE used_at < ? AND id NOT IN (SELECT value FROM json_each(?))"
            found = [row[0] for row in db.execute(old, (used_before, kept))]
            delete_parts(db, self._fresh_rows(found), found)
            self._owned.forget()
            db.executemany("DELETE FROM sessions WHERE id = ?", [(each,) for each in found])
            db.execute("DELETE FROM closed WHERE at < ?", (time.time() - TOMBSTONE_S,))
            db.execute(schema.TRIM_REPLIES, (REMEMBERED_REPLIES,))
            return len(found)

        return await self._call(lambda: self._transaction(remove))

    async def close(self) -> None:
        """Close the file; the thread ends."""
        if self._thread is not None:
            thread, self._thread = self._thread, None
            with suppress(StoreError):
                await self._call(self._close)
            self._jobs.put(None)
            if thread is not threading.current_thread():
                await asyncio.to_thread(thread.join, 5.0)

    # --- the thread ------------------------------------------------------------------------------

    async def _call(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._jobs.put((work, done, loop))
        return await done

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, done, loop = job
            result: Any = None
            error: Exception | None = None
            try:
                result = work()
            except sqlite3.Error as failed:
                error = self._explained(failed)
            except Exception as failed:
                error = failed
            with suppress(RuntimeError):  # the loop was closed: nobody waits for the answer
                loop.call_soon_threadsafe(_answer, done, result, error)

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise StoreError("unavailable", f"{self.path} is not open")
        return self._db

    def _rows(self) -> PieceRows:
        if self._pieces is None or not self._exclusive:  # another process may write them
            self._pieces = PieceRows(self._opened())
        return self._pieces

    def _fresh_rows(self, session_ids: Sequence[SessionId]) -> PieceRows:
        """Return the rows of sessions that another worker may have written."""
        rows = self._rows()
        if self._shared:
            rows.reload(self._opened(), session_ids)
        return rows

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        db = self._opened()
        db.execute("BEGIN IMMEDIATE")
        try:
            result = work(db)
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            self._pieces = None
            self._owned.forget()
            raise
        return result

    def _open(self) -> None:
        self._close()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if self._exclusive and not self._shared:
                self._lock = locked(self.path)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # conversations are private
        except OSError as error:
            raise StoreError("unavailable", f"{self.path} cannot be opened: {error.strerror}") from error
        try:
            self._db = db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_MS / 1000)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {self._synchronous.upper()}")
            self._migrate(db)
        except BaseException:
            self._close()
            raise

    def _migrate(self, db: sqlite3.Connection) -> None:
        version, kind = (
            int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("user_version", "application_id")
        )
        empty = not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not empty and kind != schema.APPLICATION_ID:
            raise StoreError("corrupt", f"{self.path} belongs to another program: name another file")
        if version > len(schema.MIGRATIONS):
            raise StoreError(
                "newer", f"{self.path} was written by a newer version of bargein: use that, or another file"
            )
        for index in range(version, len(schema.MIGRATIONS)):
            db.executescript(
                f"BEGIN IMMEDIATE; {schema.MIGRATIONS[index]} PRAGMA user_version = {index + 1}; "
                f"PRAGMA application_id = {schema.APPLICATION_ID}; COMMIT"
            )

    def _close(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = self._pieces = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _explained(self, error: sqlite3.Error) -> StoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        kind, why = _KINDS.get(code, ("unavailable", f"it fails with {error}"))
        return StoreError(kind, f"{self.path} cannot be used, because {why}")


def _answer(done: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
