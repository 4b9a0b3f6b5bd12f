"""Unix sockets to listen on, for a proxy on the same machine."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

_MODE = 0o666
"""Who may enter the folder may connect, as with other servers behind a proxy."""


def unix_socket(path: str) -> socket.socket:
    """Return a bound Unix socket, in place of one that a dead server left.

    Args:
        path: Path of the socket.

    Raises:
        OSError: The path cannot be bound: a server listens there, or a file is in the way.
    """
    if _is_left(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        os.chmod(path, _MODE)
    except OSError:
        listener.close()
        raise
    return listener


def remove_socket(path: str) -> None:
    """Remove the socket of a server that has ended."""
    with suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)


def _is_left(path: str) -> bool:
    """Return whether a path has a socket without a listener."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED
