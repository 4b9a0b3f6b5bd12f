"""Worker: a process of a supervisor, and its line to the supervisor."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec
from msgspec import Struct

from ..settings import Settings
from .place import Place

VARIABLE = "_BARGEIN_WORKER"
"""Environment variable from the supervisor with an encoded `Worker`."""


LAST_S = 15.0
"""Seconds that workers have for their connections and their store, after the turns and the agent."""


class Worker(Struct, frozen=True):
    """A worker, as its supervisor has started it.

    Args:
        place: Its place among the workers.
        control: Descriptor of its line to the supervisor.
        port: The port that all workers share.
        listener: Descriptor of the socket that all workers accept from; None where each has its own.
        announces: Whether it prints the address.
        lock: Descriptor of the lock of a store that all workers share, held while any of them lives.
        keeps: Whether it has a store; not when another server has locked it.
    """

    place: Place
    control: int
    port: int
    listener: int | None = None
    announces: bool = False
    lock: int | None = None
    keeps: bool = True

    def encoded(self) -> str:
        """Return the value of the variable."""
        return msgspec.json.encode(self).decode()


def worker_of(environment: Mapping[str, str]) -> Worker | None:
    """Return this process as a worker; None without a supervisor."""
    given = environment.get(VARIABLE)
    return msgspec.json.decode(given, type=Worker) if given is not None else None


class Control:
    """A worker's line to its supervisor.

    Args:
        worker: The worker.
        stop: Called when the worker must stop: it has a successor, or its supervisor is gone.
        succeed: Called before that with the name of the successor.
        stop_s: Seconds in which a worker without a supervisor must have ended; then it is killed.
    """

    def __init__(
        self,
        worker: Worker,
        stop: Callable[[], object],
        succeed: Callable[[str], object],
        stop_s: float,
    ) -> None:
        self._worker = worker
        self._stop = stop
        self._succeed = succeed
        self._stop_s = stop_s
        self._orphaned = False
        self._buffer = b""
        self._sock = socket.socket(fileno=worker.control)
        self._sock.setblocking(False)

    def watch(self) -> None:
        """Report that the worker serves, and read its line in the running loop."""
        asyncio.get_running_loop().add_reader(self._sock, self._read)
        line = os.dup(self._sock.fileno())
        # A daemon, which does not hold up the end of the process.
        threading.Thread(target=_end_orphan, args=(line, self._stop_s), daemon=True).start()
        with suppress(OSError):
            self._sock.send(b"ready\n")

    def _read(self) -> None:
        try:
            data = self._sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._orphaned = True
            self.close()
            self._stop()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            word, _, name = line.decode().partition(" ")
            if word == "successor":
                self._succeed(name)
                self._stop()

    def close(self) -> None:
        """Stop reading."""
        if self._sock.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def clean_up(self) -> None:
        """Remove the folder, if this is the last worker and has no supervisor."""
        if self._orphaned and not self._worker.place.names():
            shutil.rmtree(self._worker.place.folder, ignore_errors=True)


def stop_s_of(settings: Settings) -> float:
    """Return the seconds in which a worker must have ended after a signal."""
    cleanup_s = settings.cleanup_grace_s + 2 * settings.cleanup_kill_s
    return settings.drain_s + cleanup_s + settings.shutdown_s + LAST_S


def _end_orphan(line: int, stop_s: float) -> None:
    """Kill this process some time after its supervisor is gone.

    Its event loop notices that as well, unless the agent holds it up; then the port would be served by a
    process that answers nobody, for ever.
    """
    gone = select.poll()
    gone.register(line, select.POLLHUP)
    gone.poll()
    time.sleep(stop_s)
    os.kill(os.getpid(), signal.SIGKILL)


def private_folder(environment: Mapping[str, str]) -> str:
    """Return a new folder for the workers' sockets, open to this user only."""
    parent = environment.get("XDG_RUNTIME_DIR", "")
    usable = os.path.isabs(parent) and os.access(parent, os.W_OK) and len(parent) < 60
    return tempfile.mkdtemp(prefix="bargein-", dir=parent if usable else None)
