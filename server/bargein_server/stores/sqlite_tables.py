"""Reading and writing of the tables of the SQLite store."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from bargein_protocol import SessionId, TurnId

from ..core.records import decoded
from . import schema
from .interface import Outcome, StoredSession, Write

REMEMBERED_REPLIES = 1024


class PieceRows:
    """Rows of the pieces of every session, by turn; the table has no index.

    Args:
        db: The database. This process is its only writer, or `reload` is called before the rows of a session
            that was another process's are used.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._rows: dict[str, dict[str, list[int]]] = {}
        for n, session_id, turn_id in db.execute("SELECT n, session, turn FROM pieces ORDER BY n"):
            self._add(session_id, turn_id, n)

    def _add(self, session_id: str, turn_id: str, n: int) -> None:
        self._rows.setdefault(session_id, {}).setdefault(turn_id, []).append(n)

    def reload(self, db: sqlite3.Connection, session_ids: Sequence[SessionId]) -> None:
        """Read the rows of sessions anew: another process may have written them."""
        for session_id in session_ids:
            self._rows.pop(session_id, None)
        given = msgspec.json.encode(list(session_ids)).decode()
        for session_id, turn_id, n in db.execute(schema.PIECES_OF, (given,)):
            self._add(session_id, turn_id, n)

    def append(self, db: sqlite3.Connection, pieces: list[tuple[SessionId, TurnId, Raw]]) -> None:
        """Add pieces to the table."""
        if pieces:
            last = db.execute(schema.ADD_PIECES, (msgspec.json.encode(pieces).decode(),)).lastrowid
            if last is None or last < len(pieces):  # not set by every version of SQLite
                last = int(db.execute("SELECT max(n) FROM pieces").fetchone()[0])
            for n, (session_id, turn_id, _) in enumerate(pieces, last - len(pieces) + 1):
                self._add(session_id, turn_id, n)

    def of(self, session_id: SessionId) -> list[int]:
        """Return the rows of a session, in order."""
        return sorted(n for rows in self._rows.get(session_id, {}).values() for n in rows)

    def take_turn(self, session_id: SessionId, turn_id: TurnId) -> list[int]:
        """Return and forget the rows of a turn."""
        turns = self._rows.get(session_id, {})
        rows = turns.pop(turn_id, [])
        if not turns:
            self._rows.pop(session_id, None)
        return rows

    def take(self, session_id: SessionId) -> list[int]:
        """Return and forget the rows of a session."""
        rows = self.of(session_id)
        self._rows.pop(session_id, None)
        return rows


def _run(db: sqlite3.Connection, statement: str, rows: list[Any]) -> None:
    if rows:
        db.execute(statement, (msgspec.json.encode(rows).decode(),))


class Owned:
    """Sessions with owner and number of writes cached.

    This process is the only one that writes, apart from commands that delete, which `PRAGMA data_version`
    shows. So a write of output alone, ten in a second for each session that speaks, needs no look-up. When
    several workers write, every write is looked up and counted in the file.

    Args:
        shared: Whether other workers write.

    Attributes:
        shared: Whether other workers write.
    """

    def __init__(self, shared: bool = False) -> None:
        self.shared = shared
        self._known: dict[SessionId, tuple[str, int]] = {}
        self._version = -1

    def refresh(self, db: sqlite3.Connection) -> None:
        """Forget everything if another connection has written."""
        version = int(db.execute("PRAGMA data_version").fetchone()[0])
        if version != self._version:
            self._known.clear()
            self._version = version

    def knows(self, write: Write) -> bool:
        """Return whether the store has exactly the writes that this one follows."""
        return self._known.get(write.session_id) == (write.fence, write.follows)

    def stored(self, write: Write) -> None:
        """Record a write."""
        if write.released:
            self._known.pop(write.session_id, None)
        else:
            self._known[write.session_id] = (write.fence, write.follows + 1)

    def forget(self) -> None:
        """Forget all: a transaction failed, or sessions were deleted."""
        self._known.clear()


def _is_output(write: Write) -> bool:
    changes = write.changes
    return not (
        write.released
        or changes.whole
        or changes.head
        or changes.turns
        or changes.ended
        or changes.replies
        or changes.dropped
    )


def write(db: sqlite3.Connection, rows: PieceRows, owned: Owned, writes: Sequence[Write]) -> list[Outcome]:
    """Write a batch, within a transaction."""
    owned.refresh(db)
    outcomes = [Outcome.STORED] * len(writes)
    unknown = [index for index, write in enumerate(writes) if not owned.knows(write)]
    if unknown:
        for index, outcome in zip(unknown, _outcomes(db, [writes[i] for i in unknown]), strict=True):
            outcomes[index] = outcome
    full = [
        write
        for write, outcome in zip(writes, outcomes, strict=True)
        if outcome is Outcome.STORED and (owned.shared or not _is_output(write))
    ]
    if full:
        _write_full(db, rows, full)
    pieces = []
    for write, outcome in zip(writes, outcomes, strict=True):
        if outcome is Outcome.STORED:
            owned.stored(write)
            pieces += [(write.session_id, turn_id, Raw(piece)) for turn_id, _, piece in write.changes.pieces]
    rows.append(db, pieces)
    return outcomes


def _outcomes(db: sqlite3.Connection, writes: Sequence[Write]) -> list[Outcome]:
    asked = [(write.session_id, write.fence, write.follows, write.changes.whole) for write in writes]
    [refused] = db.execute(schema.REFUSED, (msgspec.json.encode(asked).decode(),)).fetchone()
    outcomes = [Outcome.STORED] * len(writes)
    for index, why in msgspec.json.decode(refused):
        outcomes[index] = Outcome(why)
    return outcomes


def _write_full(db: sqlite3.Connection, rows: PieceRows, stored: Sequence[Write]) -> None:
    """Write everything of a batch but its pieces."""
    whole = [write for write in stored if write.changes.whole]
    delete_parts(db, rows, [write.session_id for write in whole])
    _run(db, schema.ADD_SESSIONS, [
        (write.session_id, write.fence, write.follows + 1, write.changes.seq, write.principal,
         write.created_at, write.used_at)
        for write in whole
    ])  # fmt: skip
    _run(db, schema.UPDATE_SESSIONS, [
        (write.session_id, write.fence, write.follows + 1, write.changes.seq)
        for write in stored if not write.changes.whole
    ])  # fmt: skip
    # Output alone leaves the time of use as it is: it is in two indexes.
    _run(db, schema.USE_SESSIONS, [
        (write.session_id, write.used_at, write.released)
        for write in stored if write.released or write.changes.head or write.changes.turns
    ])  # fmt: skip
    _run(db, schema.SET_HEADS, [
        (write.session_id, Raw(write.changes.head)) for write in stored if write.changes.head is not None
    ])  # fmt: skip
    _run(db, schema.SET_TURNS, [
        (write.session_id, turn_id, position, Raw(record))
        for write in stored for turn_id, position, record in write.changes.turns
    ])  # fmt: skip
    _run(db, schema.DROP_TURNS, [
        (write.session_id, turn_id) for write in stored for turn_id in write.changes.dropped
    ])  # fmt: skip
    _run(db, schema.DROP_PIECES, [
        n for write in stored for turn_id in write.changes.ended
        for n in rows.take_turn(write.session_id, turn_id)
    ])  # fmt: skip
    _run(db, schema.ADD_REPLIES, [
        (write.session_id, request_id, Raw(reply))
        for write in stored for request_id, reply in write.changes.replies
    ])  # fmt: skip


def delete_parts(db: sqlite3.Connection, rows: PieceRows, session_ids: list[SessionId]) -> None:
    """Delete everything of sessions but their rows in the table `sessions`."""
    if session_ids:
        given = msgspec.json.encode(session_ids).decode()
        for table in schema.PARTS:
            db.execute(f"DELETE FROM {table} WHERE session IN (SELECT value FROM json_each(?))", (given,))
        _run(db, schema.DROP_PIECES, [n for each in session_ids for n in rows.take(each)])


def read(db: sqlite3.Connection, rows: PieceRows, session_id: SessionId) -> StoredSession | None:
    """Return a session, None for an unknown one."""
    row = db.execute(
        "SELECT head, seq, clean, fence, writes, used_at, name FROM sessions JOIN heads ON session = id "
        "WHERE id = ?",
        (session_id,),
    ).fetchone()
    if row is None:
        return None
    head, seq, clean, fence, writes, used_at, name = row
    turns = db.execute(
        "SELECT position, record FROM turns WHERE session = ? ORDER BY position", (session_id,)
    ).fetchall()
    replies = db.execute(
        "SELECT request, reply FROM replies WHERE session = ? ORDER BY n DESC LIMIT ?",
        (session_id, REMEMBERED_REPLIES),
    ).fetchall()
    pieces = [
        piece
        for n in rows.of(session_id)
        for (piece,) in db.execute("SELECT piece FROM pieces WHERE n = ?", (n,))
    ]
    stored = decoded(head, seq, bool(clean), turns, replies[::-1], pieces)
    return StoredSession(stored, fence, writes, used_at, name=name)
