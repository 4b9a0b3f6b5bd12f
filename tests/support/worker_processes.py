"""Servers of several processes.

async with workers("agents:talk", folder, "--drain-s", "0") as process:
    children(process)
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from client_script import patiently
from processes import ServerProcess, server
from waiting import WAIT_S


@asynccontextmanager
async def workers(agent: str, folder: Path, *options: str, count: int = 2) -> AsyncIterator[ServerProcess]:
    """Run a server of several workers; all of them serve when the block begins."""
    async with server(agent, folder, "--workers", str(count), *(options or ("--drain-s", "0"))) as process:
        sockets = folder_of(children(process)[0])
        async with asyncio.timeout(3 * WAIT_S):
            while sum(len(name) == 8 for name in os.listdir(sockets)) < count:
                await asyncio.sleep(0.01)
        yield process
        if process.process.returncode is None:
            processes = children(process)
            process.process.terminate()
            await patiently(process.process.wait())
            assert not any(map(lives, processes))


def children(process: ServerProcess) -> list[int]:
    """Return the processes that a process has started."""
    listed = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text()
    return [int(pid) for pid in listed.split()]


def folder_of(pid: int) -> str:
    """Return the folder with the sockets of a worker and its siblings."""
    variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
    worker = next(each for each in variables if each.startswith("_BARGEIN_WORKER="))
    return str(json.loads(worker.partition("=")[2])["place"]["folder"])


def lives(pid: int) -> bool:
    """Return whether there is such a process."""
    return Path(f"/proc/{pid}").exists()
