"""Store in one SQLite file, without a server.

One thread owns the connection and does one call after the other. A batch of writes is one transaction of
the write-ahead log: a killed process loses nothing of it. `synchronous=full` also waits for the disk, so
that a power cut loses nothing either; without it a power cut may lose the last seconds.

One server uses a file at a time: it holds the lock of the file `…-lock` beside it, which the system
releases when the process ends, however it ends. Commands read the file meanwhile.
"""

from __future__ import annotations

import asyncio
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
from .sqlite_files import OpenFiles, explained, locked, prepare
from .sqlite_tables import REMEMBERED_REPLIES, Owned, PieceRows, delete_parts, read, write

T = TypeVar("T")

BUSY_MS = 1000
"""Time that a call waits for another process, such as a backup, to unlock the file."""

CLOSE_S = 2.0
"""Time that closing may take: a disk that hangs holds up no end of a server."""

TOMBSTONE_S = 3600.0
"""Time for which a deleted session cannot be written by an owner that has not noticed."""

Job = tuple[Callable[[], Any], "asyncio.Future[Any]", asyncio.AbstractEventLoop]


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
        self._files: OpenFiles | None = None
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
        return await self._call(lambda: read(self._looked(), self._fresh_rows([session_id]), session_id))

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
            rows = self._looked().execute(statement, (principal, *until, limit)).fetchall()
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
        """Close the file; the thread ends, at once or when the disk answers."""
        thread = self._thread
        if thread is None:
            return
        done = False
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._call(self._close)
            done = True
        self._thread = None
        self._jobs.put(None)
        if done and thread is not threading.current_thread():
            await asyncio.to_thread(thread.join, CLOSE_S)

    # --- the thread ------------------------------------------------------------------------------

    async def _call(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            raise self._not_open()
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
            except (sqlite3.Error, OSError) as failed:
                error = explained(self.path, failed)
            except Exception as failed:
                error = failed
            with suppress(RuntimeError):  # the loop was closed: nobody waits for the answer
                loop.call_soon_threadsafe(_answer, done, result, error)

    def _not_open(self) -> StoreError:
        return StoreError("unavailable", f"{self.path} is not open")

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            raise self._not_open()
        return self._db

    def _looked(self) -> sqlite3.Connection:
        """Return the connection, unless its files were taken away."""
        db = self._opened()
        if self._files is not None:
            self._files.check()
        return db

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
        self._looked()  # afterwards, because a commit to a deleted file succeeds
        return result

    def _open(self) -> None:
        self._close()
        try:
            if self._exclusive and not self._shared:
                self._lock = locked(self.path)
            prepare(self.path)
            self._db = db = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_MS / 1000)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {self._synchronous.upper()}")
            self._migrate(db)
            self._files = OpenFiles(self.path, self._lock is not None)
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
        if version < 0:
            raise StoreError("corrupt", f"{self.path} is damaged: restore a backup, or move it away")
        if version > len(schema.MIGRATIONS):
            raise StoreError(
                "newer", f"{self.path} was written by a newer version of bargein: use that, or another file"
            )
        for index in range(0 if empty else version, len(schema.MIGRATIONS)):
            db.executescript(
                f"BEGIN IMMEDIATE; {schema.MIGRATIONS[index]} PRAGMA user_version = {index + 1}; "
                f"PRAGMA application_id = {schema.APPLICATION_ID}; COMMIT"
            )

    def _close(self) -> None:
        if self._db is not None:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db = self._pieces = self._files = None
            self._owned.forget()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _answer(done: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(result)
