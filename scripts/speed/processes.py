"""Server processes: started, watched, and stopped in every case."""

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
from bargein_server.serving.server import listening_socket
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
    """Failure of a server or a connection, which invalidates the figures."""


class Served:
    """A server that runs.

    Args:
        name: One of `ALL`.
        port: Where it listens.
        process: What runs it.
        log: File descriptor of its output, which is warnings and errors only.

    Attributes:
        url: Where its socket is.
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
        """Resources used so far."""
        return usage_of(self.pid)

    @property
    def complaint(self) -> str:
        """Description of its failure; empty without one."""
        # Not read(): the offset of the file is the server's, too.
        said = os.pread(self._log, _SAID, 0).decode("utf-8", "replace").strip()
        code = self._process.poll()
        ended = f"{self.name} ended with {code}" if code is not None else ""
        return "; ".join(filter(None, [ended, f"{self.name} wrote: {said}" if said else ""]))

    def check(self) -> None:
        """Look whether it is well.

        Raises:
            Broken: It has ended, or has written a warning or an error.
        """
        if complaint := self.complaint:
            raise Broken(complaint)


Serve = Callable[[Sequence[str]], AbstractContextManager[list[Served]]]
"""Starts servers of these names."""


@contextmanager
def served(script: Path, names: Sequence[str] = ALL) -> Iterator[list[Served]]:
    """Start servers on a core of their own, and stop them at the end.

    Args:
        script: Calls `serve` for `--serve NAME --port PORT`, on a core if there is `--core CORE`.
        names: Which.

    Raises:
        Broken: One of them was not well at the end. Any other error gets what they wrote as a note.
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
        # As an argument: a new process inherits our set of cores, which is ours alone.
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
    except BaseException:  # it hangs or this process is being ended: it must not stay behind
        process.kill()
        process.wait()
        raise


def end_with_parent() -> None:
    """Make this server process end with the process that started it.

    A signal may come while a process is being started, before it is in the list of processes to stop.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


async def listening(server: Served) -> None:
    """Wait until a server accepts connections.

    Raises:
        Broken: It ended instead.
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
    """Run on one core; None: wherever the system likes."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def allow_files() -> None:
    """Open as many files as the system lets this process: each session is one."""
    with suppress(ImportError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
