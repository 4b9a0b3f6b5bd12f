"""Real servers as processes, to be killed, stopped and put behind proxies.

async with server("agents:flood", folder, "--heartbeat-s", "1") as process:
    process.url
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import SystemRandom

from msgspec import Struct

from waiting import WAIT_S

ROOT = Path(__file__).parents[2]

PORTS = (10_000, 32_000)
"""Ports below those that the system gives to outgoing connections."""

_chance = SystemRandom()


def environment() -> dict[str, str]:
    """Return the environment of a process that runs this checkout."""
    packages = ("protocol", "server", "clients/python")
    path = os.pathsep.join(str(ROOT / package) for package in packages)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    """Return a free port of the loopback, which no outgoing connection takes before it is used."""
    while True:
        port = _chance.randrange(*PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Machine(Struct, frozen=True):
    """Where a process runs.

    Args:
        host: Its address.
        enter: Command that runs another one there.
    """

    host: str = "127.0.0.1"
    enter: tuple[str, ...] = ()


HERE = Machine()


class ServerProcess:
    """A `bargein-server` that listens.

    Attributes:
        url: Where its sessions are.
        port: Where it listens.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str, host: str = HERE.host) -> None:
        self.process = process
        self.port = int(url.rsplit(":", 1)[1].split("/")[0])
        self.url = f"ws://{host}:{self.port}/v1/session"

    async def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def server(
    agent: str, folder: Path, *options: str, port: int = 0, machine: Machine = HERE
) -> AsyncIterator[ServerProcess]:
    """Run `bargein-server` for an agent in a folder until the block ends."""
    outside = () if machine == HERE else ("--host", machine.host, "--insecure")
    process = await asyncio.create_subprocess_exec(
        *machine.enter,
        sys.executable, "-m", "bargein_server", agent, "--port", str(port), *outside, *options,
        cwd=folder, env=environment(), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(3 * WAIT_S):  # a busy machine imports slowly
            line = (await process.stdout.readline()).decode()
        assert " at ws://" in line, f"expected the server to say where it listens, got {line!r}"
        started = ServerProcess(process, line.split()[-1], machine.host)
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
