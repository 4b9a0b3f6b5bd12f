"""Place of a process among a machine's workers: its name and folder."""

from __future__ import annotations

import os
import secrets
import socket
import zlib
from pathlib import Path

from msgspec import Struct

from bargein_protocol import SessionId

NAME_CHARS = 8
"""Characters of a worker's name, which stand at the start of its session ids."""

_PREFIX = "s_"


def new_name() -> str:
    """Return a name that no process has had."""
    return secrets.token_hex(NAME_CHARS // 2)


def name_of(session_id: SessionId) -> str:
    """Return the process that made a session; empty for other forms of ids."""
    name = session_id.removeprefix(_PREFIX)[:NAME_CHARS]
    hexadecimal = all(char in "0123456789abcdef" for char in name)
    return name if session_id.startswith(_PREFIX) and len(name) == NAME_CHARS and hexadecimal else ""


OWN_PREFIX = "c_"
"""Start of the ids of sessions by clients' own ids (`hosting.own_ids`)."""


def number_of(session_id: SessionId, workers: int) -> int | None:
    """Return the worker for a session of a client's own id, else None.

    Such a session has no maker whose name could be in its id: every request leads to the worker of its hash.
    """
    if not session_id.startswith(OWN_PREFIX):
        return None
    return zlib.crc32(session_id.encode()) % workers


class Place(Struct, frozen=True):
    """A worker's place.

    Args:
        name: Its name.
        folder: The private folder with the sockets of all workers.
        number: Its number, from 0; the worker that takes its place has the same.
        workers: Number of workers.
        column: Its column in the shared counts.
    """

    name: str
    folder: str
    number: int = 0
    workers: int = 1
    column: int = 0

    @property
    def path(self) -> Path:
        """The worker's own socket."""
        return self.path_of(self.name)

    def path_of(self, name: str) -> Path:
        """Return the socket of a worker."""
        return Path(self.folder) / name

    @property
    def counts(self) -> Path:
        """The file with the shared counts."""
        return Path(self.folder) / "counts"

    @property
    def tickets(self) -> Path:
        """The folder with the tickets."""
        return Path(self.folder) / "tickets"

    def name_at(self, number: int) -> str:
        """Return the name of the worker with a number; empty without one."""
        try:
            return os.readlink(self._numbered(number))
        except OSError:
            return ""

    def _numbered(self, number: int) -> Path:
        return Path(self.folder) / f"n{number}"

    def take_number(self) -> None:
        """Let the number lead to this worker."""
        _link(self._numbered(self.number), self.name)

    def names(self) -> list[str]:
        """Return the names of the other workers that have a socket of their own.

        None without the folder, which the last worker removes when the supervisor was killed.
        """
        try:
            found = list(Path(self.folder).iterdir())
        except FileNotFoundError:
            return []
        return sorted(
            each.name
            for each in found
            if len(each.name) == NAME_CHARS and each.name != self.name and not each.is_symlink()
        )

    @property
    def is_crowded(self) -> bool:
        """Whether there are more workers than usual, during a replacement."""
        return len(self.names()) >= self.workers

    def listen(self) -> socket.socket:
        """Return the listening socket of this worker.

        Raises:
            OSError: The folder is gone, or not private.
        """
        status = os.stat(self.folder)
        if status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise PermissionError(f"{self.folder} must belong to this user alone: give it mode 0700")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            listener.bind(os.fspath(self.path))
            listener.listen(128)
        except OSError:
            listener.close()
            raise
        return listener

    def leave_to(self, successor: str) -> None:
        """Let the name, and all that lead to it, lead to another worker."""
        folder = Path(self.folder)
        own = [each for each in folder.iterdir() if each.is_symlink() and os.readlink(each) == self.name]
        for each in (*own, self.path):
            if each.name != f"n{self.number}":
                _link(each, successor)


def _link(path: Path, target: str) -> None:
    """Let a path lead to another one, in one step."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(path)
