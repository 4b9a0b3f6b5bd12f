"""Servers in processes of their own: start, checks, and a certain stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile

from bargein_server.app import SESSION_PATH
from bargein_server.serving.listener import listening_socket
from loadgen.machine import Usage, usage_of

FLOOR, OURS, WATCHED = NAMES = "floor", "bargein", "watched"
LEAST = "least"
ALL = (*NAMES, LEAST)
END_S = 10.0
_CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER_CORE, LOAD_CORE = (_CORES[0], _CORES[1]) if len(_CORES) > 1 else (None, None)
"""A core each, where the system can do that and has two."""
_SAID = 4000


class Broken(Exception):
    """A server or a connection failed, which makes the figures invalid."""


class Served:
    """A running server.

    Args:
        name: One of `ALL`.
        port: Its port.
        process: Its process.
        log: File descriptor of its output, which has only warnings and errors.

    Attributes:
        url: URL of its WebSocket.
    """

    def __init__(self, name: str, port: int, process: subprocess.Popen[bytes], log: int) -> None:
        self.name = name
        self.port = port
        self.url = f"ws://127.0.0.1:{port}{'/' if name in (FLOOR, LEAST) else SESSION_PATH}"
        self.pid = process.pid
        self._process = process
        self._log = log

    @property
    def usage(self) -> Usage:
        """Return its resources used so far."""
        return usage_of(self.pid)

    @property
    def complaint(self) -> str:
        """Return a description of its failure; empty without one."""
        # Not read(): the offset of the file is the server's, too.
        said = os.pread(self._log, _SAID, 0).decode("utf-8", "replace").strip()
        code = self._process.poll()
        ended = f"{self.name} ended with {code}" if code is not None else ""
        return "; ".join(filter(None, [ended, f"{self.name} wrote: {said}" if said else ""]))

    def check(self) -> None:
        """Check that the server works.

        Raises:
            Broken: The server has ended, or has logged a warning or an error.
        """
        if complaint := self.complaint:
            raise Broken(complaint)


Serve = Callable[[Sequence[str]], AbstractContextManager[list[Served]]]
"""Starts servers of these names."""


@contextmanager
def served(script: Path, names: Sequence[str] = ALL) -> Iterator[list[Served]]:
    """Start servers, on their own core where possible; stop them at the end.

    Args:
        script: Calls `serve` for `--serve NAME --port PORT`, on one core with `--core CORE`.
        names: Names of the servers.

    Raises:
        Broken: A server has failed. Any other error gets the output of the servers as a note.
    """
    with ExitStack() as stack:
        servers = [_start(script, name, stack) for name in names]
        try:
            yield servers
        except Exception as error:
            for server in servers:
                if server.complaint:
                    error.add_note(server.complaint)
            raise
        for server in servers:
            server.check()


def _start(script: Path, name: str, stack: ExitStack) -> Served:
    with listening_socket("127.0.0.1", 0, 1.0) as probe:
        port = probe.getsockname()[1]
    log = stack.enter_context(TemporaryFile())  # noqa: SIM115 - the stack closes it
    command: list[str | Path] = [sys.executable, script, "--serve", name, "--port", str(port)]
    if SERVER_CORE is not None:
        # Told, since a process begins with the cores that we have left ourselves: ours alone.
        command += ["--core", str(SERVER_CORE)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # see end_with_parent
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    assert process.stdin is not None
    stack.callback(process.stdin.close)
    stack.callback(_end, process)
    return Served(name, port, process, log.fileno())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except BaseException:  # the process hangs, or this one is being ended: it must not stay behind
        process.kill()
        process.wait()
        raise


def end_with_parent() -> None:
    """End this process, a server, when its parent process is gone.

    A signal may end the parent while it starts the server and cannot stop it yet.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


async def listening(server: Served) -> None:
    """Wait until a server accepts connections.

    Raises:
        Broken: The server ended instead.
    """
    async with asyncio.timeout(30):
        while True:
            server.check()
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def pin(core: int | None) -> None:
    """Restrict this process to one core; None for all cores."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def allow_files() -> None:
    """Raise the limit of open files, because each session is one."""
    with suppress(ImportError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
