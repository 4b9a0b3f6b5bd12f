"""Tools for tests of commands: a process on a terminal or on pipes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from client_script import ScriptedLine, ScriptedServer

PATIENCE_S = 30.0
_ROOTS = ("protocol", "clients/python")
_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-Z\\-_])")


def command(*arguments: str) -> list[str]:
    """Return the command line of `bargein`."""
    return [sys.executable, "-m", "bargein_client", *arguments]


def surroundings(**more: str) -> dict[str, str]:
    """Return the environment of a command that runs from this checkout."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(str(root / part) for part in _ROOTS)
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "BARGEIN_TOKEN")}
    kept.update(PYTHONPATH=path, TERM="xterm-256color", PROMPT_TOOLKIT_NO_CPR="1", PYTHONWARNINGS="error")
    kept.update(more)
    return kept


def plain(shown: str) -> str:
    """Return the output without the terminal's escape sequences."""
    return _ESCAPES.sub("", shown)


class Terminal:
    """A process that believes a person sits in front of it."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process = process
        self.shown = ""
        self._descriptor = descriptor
        self._seen = 0
        self._news = asyncio.Event()
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def type(self, keys: str) -> None:
        """Press keys; Enter is a carriage return, Ctrl-C the character 3."""
        os.write(self._descriptor, keys.encode())

    async def expect(self, words: str) -> None:
        """Wait until the words appear, after those that were expected before."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while (at := plain(self.shown).find(words, self._seen)) < 0:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"expected {words!r}, shown: {plain(self.shown)!r}") from None
        self._seen = at + len(words)

    async def wait(self) -> int:
        """Wait for the end of the process and return its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()

    def close(self) -> None:
        """Put the terminal away."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65_536)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self.shown += data.decode(errors="replace")
        self._news.set()


@asynccontextmanager
async def on_terminal(
    *arguments: str, columns: int = 100, program: str | None = None, **environment: str
) -> AsyncIterator[Terminal]:
    """Run `bargein`, or a program, on a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(command(*arguments) if program is None else [sys.executable, "-c", program]),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=surroundings(**environment),
        start_new_session=True,
    )
    os.close(theirs)
    terminal = Terminal(process, ours)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        terminal.close()


@asynccontextmanager
async def on_pipes(*arguments: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `bargein` on pipes."""
    process = await asyncio.create_subprocess_exec(
        *command(*arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=surroundings(**environment),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def interrupt(process: asyncio.subprocess.Process) -> None:
    """Send the signal of Ctrl-C."""
    process.send_signal(signal.SIGINT)


async def output(process: asyncio.subprocess.Process) -> tuple[str, str, int | None]:
    """Wait for the end of a process; return its output and exit code."""
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    return (out or b"").decode(), (err or b"").decode(), process.returncode


async def opening(server: ScriptedServer) -> ScriptedLine:
    """Return the next connection, opened."""
    line = await server.line()
    await line.open()
    return line
