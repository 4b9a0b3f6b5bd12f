"""Files of the SQLite store: lock, identity, errors in words."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from pathlib import Path
from typing import IO

from .interface import StoreError

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:
    _CAN_LOCK = False  # on Windows
else:
    _CAN_LOCK = True

LOOK_S = 1.0
"""Seconds between two looks at the place of the files: each look waits for the interpreter's lock."""

_LOG_STARTS = (bytes.fromhex("377f0682"), bytes.fromhex("377f0683"))

_FULL = ("full", "the disk is full: free space")
_LOCKED = ("locked", "another process has locked it: end that process")
_READ_ONLY = ("read_only", "it is read-only: allow writing to it and to its folder")

_KINDS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: ("read_only", "it may not be written: change its permissions"),
    sqlite3.SQLITE_CANTOPEN: ("unavailable", "it cannot be opened: check its folder and its permissions"),
    sqlite3.SQLITE_IOERR: ("unavailable", "its disk fails: check the disk, quotas and limits of file sizes"),
    sqlite3.SQLITE_CORRUPT: ("corrupt", "it is damaged: restore a backup, or move it away"),
    sqlite3.SQLITE_NOTADB: ("corrupt", "it is not a database: move it away, or name another file"),
}

_SYSTEM_KINDS: dict[int, tuple[str, str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: ("full", "its user's quota is used up: free space"),
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
}


def explained(path: Path, error: sqlite3.Error | OSError) -> StoreError:
    """Return an error of a store's file with cause and remedy."""
    if isinstance(error, OSError):
        place = os.fsdecode(error.filename) if error.filename is not None else str(path)
        known = _SYSTEM_KINDS.get(error.errno or 0)
        if known is None:
            why = f"{error.strerror or type(error).__name__} ({place})"
            return StoreError(
                "unavailable", f"{path} cannot be opened: {why}: name another file, or make way"
            )
        of = f" ({place})" if place != str(path) else ""  # such as its lock
        return StoreError(known[0], f"{path} cannot be used, because {known[1]}{of}")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # Others come from damaged records and tables. Their texts may repeat a record, so are not logged.
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    damaged = ("corrupt", f"it is not as it was written ({name}): restore a backup, or move it away")
    kind, why = _KINDS.get(code, damaged)
    return StoreError(kind, f"{path} cannot be used, because {why}")


def prepare(path: Path) -> None:
    """Make a store's file if it does not exist.

    Raises:
        OSError: The file cannot be made or written.
        StoreError: Something else is in its place.
    """
    _make_folder(path)
    if path.exists() and not path.is_dir() and not path.is_file():
        raise StoreError("unavailable", f"{path} is not a regular file: name another file")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # conversations are private


def _make_folder(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)


def locked(path: Path) -> IO[bytes] | None:
    """Return the locked file beside a store; None where locks are missing.

    The lock lasts until the file is closed in all processes that have inherited it.

    Raises:
        OSError: The file cannot be opened.
        StoreError: Another server has it.
    """
    if not _CAN_LOCK:
        return None
    _make_folder(path)
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


class OpenFiles:
    """Files of an open store, to notice that they were taken away.

    The system lets a process write to files that were deleted or moved: without an error, and without a trace
    for the next process.

    Args:
        path: The database, with its log and the log's index beside it.
        lock: Whether its lock is held by this process.
    """

    def __init__(self, path: Path, lock: bool) -> None:
        self._path = path
        suffixes = ("", "-wal", "-shm", *(("-lock",) if lock else ()))
        self._files = [(f"{path}{suffix}", _identity(f"{path}{suffix}", not suffix)) for suffix in suffixes]
        self._next = time.monotonic() + LOOK_S

    def check(self) -> None:
        """Compare the files with those that were opened, at most every `LOOK_S`.

        Raises:
            StoreError: One was deleted, moved, replaced or emptied.
        """
        now = time.monotonic()
        if now < self._next:
            return
        for name, identity in self._files:
            if _identity(name, name == str(self._path)) != identity or (
                name.endswith("-wal") and not _is_log(name)
            ):
                raise StoreError(
                    "moved",
                    f"{name} was deleted, moved, replaced or emptied in use: the file that is there now, "
                    "or a new one, gets the conversations in use; to restore a backup, stop the server first",
                )
        self._next = now + LOOK_S


def _is_log(name: str) -> bool:
    """Return whether a log is empty or begins as one.

    One that was emptied in use goes on behind a hole.
    """
    try:
        with open(name, "rb") as log:
            return log.read(len(_LOG_STARTS[0])) in (b"", *_LOG_STARTS)
    except OSError:
        return False


def _identity(name: str, database: bool) -> tuple[int, int] | None:
    """Return a file's identity; None if missing, or an empty database."""
    try:
        found = os.stat(name)
    except OSError:
        return None
    if (database and not found.st_size) or not stat.S_ISREG(found.st_mode):
        return None
    return found.st_dev, found.st_ino
