"""Notes to keys: the request made with a key, for the process of its use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .authentication import ticket_digest

MAX_NOTES = 1000
"""Notes of one process that were not taken; the oldest is forgotten for a further one."""


class KeyNotes:
    """Notes to keys, each of which is taken once.

    Args:
        folder: A private folder, for all processes that share it; None to keep them in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._notes: dict[bytes, bytes] = {}

    def put(self, key: str, note: bytes) -> None:
        """Keep a note until its key is used."""
        digest = ticket_digest(key)
        self._notes[digest] = note if self._folder is None else b""
        if self._folder is not None:
            new = self._path(self._folder, digest).with_suffix(".new")
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(note)
            new.replace(self._path(self._folder, digest))
        if len(self._notes) > MAX_NOTES:
            oldest = next(iter(self._notes))
            del self._notes[oldest]
            if self._folder is not None:
                with suppress(OSError):
                    self._path(self._folder, oldest).unlink()

    def take(self, key: str) -> bytes | None:
        """Return the note to a key and forget it; None without one."""
        digest = ticket_digest(key)
        note = self._notes.pop(digest, None)
        if self._folder is None:
            return note
        path = self._path(self._folder, digest)
        try:
            note = path.read_bytes()
            path.unlink()
        except OSError:  # there is none, or another process has just taken it
            return None
        return note

    @staticmethod
    def _path(folder: Path, digest: bytes) -> Path:
        return folder / f"{digest.hex()}.note"
