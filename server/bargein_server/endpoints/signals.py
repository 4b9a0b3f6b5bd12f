"""Draining at signals, in applications under servers that are not ours.

Such a server closes its connections when it is told to stop, and reports the shutdown to the application
after that, when no client is left to receive the end of its turn. So the signal is held back while the
turns complete, and passed on to the server then.

A server has its handlers in one of two ways, and both are there before an application starts: with
`signal.signal()`, or with the event loop, which learns of signals by bytes in its wakeup descriptor.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from ..hosting.stopping import SERVER_DRAINS

log = logging.getLogger("bargein.server")

SIGNALS = (signal.SIGTERM, signal.SIGINT)

_RESTARTS_S = 2.0
"""Time after a start in which the event loop may set its wakeup descriptor again: granian runs uvloop once to
start and again to serve, and each run sets it."""

_CHECK_S = 0.001

Handler = Callable[[int, FrameType | None], Any]


class SignalGate:
    """Holds back the signals that stop a server until the turns have ended.

    Args:
        drain: Ends the turns within a bound of its own.
        hurry: Called at the second signal, which is passed on at once; `drain` does not wait any more.
    """

    def __init__(self, drain: Callable[[], Awaitable[object]], hurry: Callable[[], object]) -> None:
        self._drain = drain
        self._hurry = hurry
        self._loop = asyncio.get_running_loop()
        self._previous: dict[int, Handler] = {}
        self._wakeup = -1  # where the event loop gets its signals
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None
        self._held: list[int] = []
        self._draining: asyncio.Task[None] | None = None
        self._open = False

    def close(self) -> None:
        """Begin to hold signals back. It is called in the main thread."""
        for number in SIGNALS:
            previous = signal.getsignal(number)
            if callable(previous) and previous is not signal.default_int_handler:
                self._previous[number] = previous
                signal.signal(number, self._handle)
        if not self._previous:
            return
        self._wakeup = signal.set_wakeup_fd(-1)
        if self._wakeup != -1:
            self._reader, self._writer = socket.socketpair()
            self._reader.setblocking(False)
            self._writer.setblocking(False)
            self._loop.add_reader(self._reader, self._woken)
            self._hold_wakeup(self._loop.time() + _RESTARTS_S)

    def _hold_wakeup(self, until: float) -> None:
        """Get the bytes that are meant for the event loop."""
        if self._writer is not None:
            found = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
            if found not in (-1, self._writer.fileno()):
                self._wakeup = found
            if self._loop.time() < until:
                self._loop.call_later(_CHECK_S, self._hold_wakeup, until)

    def remove(self) -> None:
        """Pass signals on to the server again."""
        for number, previous in self._previous.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, previous)
        if self._reader is not None and self._writer is not None:
            found = signal.set_wakeup_fd(-1)
            with suppress(OSError, ValueError):  # the loop may have closed its own already
                signal.set_wakeup_fd(self._wakeup if found == self._writer.fileno() else found)
            self._loop.remove_reader(self._reader)
            self._reader.close()
            self._writer.close()
            self._reader = self._writer = None
        self._pass_on()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal between two instructions of the main thread."""
        if self._reader is None:
            self._loop.call_soon_threadsafe(self._take, number)

    def _woken(self) -> None:
        """Handle signals that were reported to the event loop."""
        assert self._reader is not None
        with suppress(BlockingIOError):
            for number in self._reader.recv(4096):
                if number in self._previous:
                    self._take(number)
                else:
                    self._wake_loop(number)

    def _take(self, number: int) -> None:
        self._held.append(number)
        if self._draining is None:
            log.info("signal %d: running turns may complete before the server gets it", number)
            self._draining = self._loop.create_task(self._drained(), name="drain")
        else:
            self._hurry()
            self._pass_on()
        if self._open:
            self._pass_on()

    async def _drained(self) -> None:
        try:
            await self._drain()
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        self._open = True
        held, self._held = self._held, []
        for number in held:
            self._previous[number](number, None)
            self._wake_loop(number)

    def _wake_loop(self, number: int) -> None:
        if self._wakeup != -1:
            with suppress(OSError):
                os.write(self._wakeup, bytes([number]))


@contextmanager
def drain_at_signals(drain: Callable[[], Awaitable[object]], hurry: Callable[[], object]) -> Iterator[None]:
    """Let the turns end before this process's server gets a stop signal.

    Nothing happens under a server that drains itself, in a thread, or without handlers of a server.
    """
    if SERVER_DRAINS.get() or threading.current_thread() is not threading.main_thread():
        yield
        return
    gate = SignalGate(drain, hurry)
    gate.close()
    try:
        yield
    finally:
        gate.remove()
