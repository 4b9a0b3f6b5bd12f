"""Supervisor: the process that starts a server's workers, and restarts.

Each worker is a fresh interpreter with the arguments of this one. The supervisor serves nobody: it holds the
port, waits, and passes signals on.

- SIGTERM and SIGINT stop all workers at once, with one deadline for all; a second signal hurries them, and a
  third one kills them.
- SIGHUP replaces the workers one after the other: the new one serves before the old one stops.
- A worker that ends is started again, after 0.2 s at first and 5 s at last.

A worker whose supervisor is gone stops.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from ..cluster.place import Place, new_name
from ..cluster.worker import VARIABLE, Worker, private_folder, stop_s_of
from ..guard.shared import SharedCounts
from ..settings import Settings
from ..stores.interface import StoreError
from ..stores.urls import lock_of
from .server import SHARES_PORTS, listening_socket

log = logging.getLogger("bargein.server")

FIRST_DELAY_S, MAX_DELAY_S = 0.2, 5.0
"""Seconds until a worker that has ended is started again, at first and at most."""

STEADY_S = 10.0
"""Seconds of service after which the delay begins anew."""

NOT_STARTED = 3
"""Exit status when no worker starts."""


class NotSupported(ValueError):
    """The system cannot run several workers; the message has the remedy."""

    def __init__(self) -> None:
        super().__init__(
            "several workers need a system that hands sockets over between processes, such as Linux or "
            "macOS: leave --workers out"
        )


class Running:
    """A worker that was started.

    Attributes:
        worker: Its description.
        process: Its process.
        ready: Done when it serves, with True, or has ended before, with False.
    """

    def __init__(
        self, worker: Worker, process: asyncio.subprocess.Process, writer: asyncio.StreamWriter
    ) -> None:
        self.worker = worker
        self.process = process
        self.ready: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.began = asyncio.get_running_loop().time()
        self._writer = writer

    def set_ready(self, ready: bool) -> None:
        """Record whether it serves; the first call counts."""
        if not self.ready.done():
            self.ready.set_result(ready)

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def retire(self, successor: str) -> None:
        """Let it give its sessions to a successor and end."""
        self._writer.write(f"successor {successor}\n".encode())

    def close(self) -> None:
        """Close the line to it."""
        self._writer.close()


class Supervisor:
    """Supervisor of one server's workers.

    Args:
        workers: Number of workers.
        arguments: Arguments of `python -m bargein_server`.
        host: The address to listen on.
        port: The port; 0 for a free one.
        stalled_s: See `listening_socket`.
        stop_s: Seconds in which all workers must have ended after a signal.
        environment: The environment of the workers.
        lock: The lock of a store that they share, if it has one.
        keeps: Whether they have a store.

    Raises:
        NotSupported: The system cannot run several workers.
        OSError: The address cannot be bound; the message has both and a remedy.
    """

    def __init__(
        self,
        workers: int,
        arguments: Sequence[str],
        host: str,
        port: int,
        stalled_s: float,
        stop_s: float,
        environment: Mapping[str, str],
        lock: IO[bytes] | None = None,
        *,
        keeps: bool = True,
    ) -> None:
        self._lock = lock.fileno() if lock is not None else None
        self._keeps = keeps
        if not hasattr(socket, "SCM_RIGHTS"):
            raise NotSupported
        self._workers = workers
        self._arguments = arguments
        self._running: dict[int, Running] = {}
        self._living: set[Running] = set()  # also those that are being replaced
        self._stop_s = stop_s
        self._environment = environment
        self._listener, self._claim = _reserved(host, port, stalled_s)
        self._folder = private_folder(environment)
        SharedCounts.create(self._place(0).counts, 2 * workers)
        self._signals = 0
        self._stopped_by: signal.Signals | None = None
        self._stopping = asyncio.Event()
        self._reload = asyncio.Event()
        self._terminal = _has_terminal()
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self) -> int:
        """Run until a signal; return the exit status."""
        try:
            status = asyncio.run(self._run())
        finally:
            self._listener.close()
            if self._claim is not None:
                self._claim.close()
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._stopped_by is not None:
            # As a server of one process, it ends by the signal that stopped it.
            signal.signal(self._stopped_by, signal.SIG_DFL)
            signal.raise_signal(self._stopped_by)
        return status

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for stop in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(stop, self._stop, stop)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        first = await self._start(0, announces=True)
        stopping = asyncio.ensure_future(self._stopping.wait())
        waits: set[asyncio.Future[Any]] = {first.ready, stopping}
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if not self._stopping.is_set() and not first.ready.result():
            stopping.cancel()
            status = await first.process.wait()
            return status if status in (2, NOT_STARTED) else NOT_STARTED
        if not self._stopping.is_set():
            self._keep(first)
            for number in range(1, self._workers):
                self._keep(await self._start(number))
            self._spawn(self._replace_on_request())
            await stopping
        await self._end()
        return 0

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- workers ---------------------------------------------------------------------------------

    async def _start(self, number: int, *, announces: bool = False) -> Running:
        own, theirs = socket.socketpair()
        listener = None if SHARES_PORTS else self._listener.fileno()
        worker = Worker(
            self._place(number), theirs.fileno(),
            self._listener.getsockname()[1], listener, announces,
            self._lock, self._keeps,
        )  # fmt: skip
        inherited = (theirs.fileno(), listener, self._lock)
        passed = [descriptor for descriptor in inherited if descriptor is not None]
        with theirs:
            # A group of its own: Ctrl-C in a terminal reaches the supervisor alone, which passes it on.
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bargein_server", *self._arguments,
                env={**self._environment, VARIABLE: worker.encoded()}, pass_fds=passed, process_group=0,
            )  # fmt: skip
        reader, writer = await asyncio.open_connection(sock=own)
        running = self._running[number] = Running(worker, process, writer)
        self._living.add(running)
        self._spawn(self._read(running, reader))
        return running

    def _place(self, number: int) -> Place:
        """Return the place of a new worker, with a column of counts of its own."""
        before = self._running.get(number)
        column = 2 * number
        if before is not None and before.worker.place.column == column:
            column += 1
        return Place(new_name(), self._folder, number, self._workers, column)

    async def _read(self, running: Running, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                if line == b"ready\n":
                    running.set_ready(True)
                    log.info(
                        "worker %d of %d serves as process %d",
                        running.worker.place.number + 1, self._workers, running.process.pid,
                    )  # fmt: skip
        running.set_ready(False)

    def _keep(self, running: Running) -> None:
        self._spawn(self._watch(running))

    async def _watch(self, running: Running, delay_s: float = FIRST_DELAY_S) -> None:
        """Start a worker again whenever it ends, unless it was replaced."""
        while True:
            status = await running.process.wait()
            running.close()
            self._living.discard(running)
            self._forget(running.worker.place)
            SharedCounts(running.worker.place.counts, running.worker.place.column).clear()
            number = running.worker.place.number
            if self._running.get(number) is not running or self._stopping.is_set():
                return
            if asyncio.get_running_loop().time() - running.began > STEADY_S:
                delay_s = FIRST_DELAY_S
            log.error(
                "worker %d has ended with status %d and is started again in %g s; its sessions are lost "
                "unless a store has them", number + 1, status, delay_s,
            )  # fmt: skip
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return
            delay_s = min(2 * delay_s, MAX_DELAY_S)
            running = await self._start(number)

    def _forget(self, place: Place) -> None:
        with suppress(OSError):
            if not place.path.is_symlink():
                place.path.unlink()

    async def _replace_on_request(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            for number in range(self._workers):
                if not await self._replace(self._running[number]):
                    break

    async def _replace(self, old: Running) -> bool:
        """Replace a worker by a new one; return False if that does not start."""
        new = await self._start(old.worker.place.number)
        if not await new.ready:
            if not self._stopping.is_set():  # else it was told to stop before it served
                log.error("the new worker does not start, so the old one goes on; its log has the cause")
            self._running[old.worker.place.number] = old
            return False
        self._keep(new)
        old.retire(new.worker.place.name)
        try:
            async with asyncio.timeout(self._stop_s):
                await old.process.wait()
        except TimeoutError:
            log.error("a worker that was replaced does not end, and is killed")
            old.signal(signal.SIGKILL)
        return True

    # --- the end ---------------------------------------------------------------------------------

    def _stop(self, number: signal.Signals) -> None:
        self._signals += 1
        self._stopped_by = number
        self._stopping.set()
        for running in self._living:
            running.signal(signal.SIGTERM if self._signals < 3 else signal.SIGKILL)

    def _hang_up(self) -> None:
        """Replace the workers, or stop if it is the terminal that has gone."""
        if self._terminal and not _has_terminal():
            self._stop(signal.SIGHUP)
        else:
            self._reload.set()

    async def _end(self) -> None:
        """Wait for all workers, for a bounded time."""
        waiting = [asyncio.ensure_future(each.process.wait()) for each in self._living]
        for running in self._living:  # one may have been started after the signal
            if not running.ready.done():
                running.signal(signal.SIGTERM)
        _, late = await asyncio.wait(waiting, timeout=self._stop_s)
        if late:
            log.error("%d workers do not end, and are killed", len(late))
            for running in self._living:
                running.signal(signal.SIGKILL)
            await asyncio.wait(late)
        for task in tuple(self._tasks):
            task.cancel()


def supervise(
    workers: int,
    arguments: Sequence[str],
    host: str,
    port: int,
    settings: Settings,
    environment: Mapping[str, str],
    store_url: str,
) -> int:
    """Run the workers of a server until a signal; return the exit status.

    The arguments and errors are those of `Supervisor`.

    Raises:
        BadStore: The URL names no store.
    """
    lock, keeps = None, True
    try:
        lock = lock_of(store_url)
    except StoreError as error:
        log.error("conversations are kept in memory only until the next start: %s", error)
        keeps = False
    return Supervisor(
        workers, arguments, host, port, settings.stalled_s, stop_s_of(settings), environment, lock,
        keeps=keeps,
    ).run()  # fmt: skip


def _reserved(host: str, port: int, stalled_s: float) -> tuple[socket.socket, socket.socket | None]:
    """Return a socket that holds the port, and one that claims it.

    With `SO_REUSEPORT` a second server of the same user would silently share the port, so it is bound
    without that option first. A name claims it against a server that starts at the same moment.
    """
    try:
        alone = listening_socket(host, port, stalled_s)
        if not SHARES_PORTS:
            return alone, None
        bound = alone.getsockname()[1]
        alone.close()
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0bargein {host}:{bound}")  # ends with the process, as the port does
            return listening_socket(host, bound, stalled_s, shared=True), claim
        except OSError:
            claim.close()
            raise
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror}"
        if error.errno == errno.EADDRINUSE:
            message += "; is another server running there? Give port 0 for a free one, or another port"
        raise type(error)(error.errno, message) from error


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
