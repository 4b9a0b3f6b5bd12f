"""The applications of the embedding guide, as processes under the servers that it names.

async with embedded(folder, "fastapi_site", "uvicorn") as site:
    status, _, body = await request(site.port, "/hello")
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from documentation import blocks
from live_server import request
from processes import environment, free_port
from waiting import WAIT_S

FRAMEWORKS = ("fastapi_site", "starlette_site", "litestar_site", "django_site")

COMMANDS = {
    "bargein-server": "-m bargein_server {site}:site --port {port}",
    "uvicorn": "-m uvicorn {site}:site --port {port}",
    "gunicorn": "-m gunicorn {site}:site -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{port}",
    "hypercorn": "-m hypercorn {site}:site --workers 0 --bind 127.0.0.1:{port}",
    "granian": "-m granian {site}:site --interface asgi --port {port}",
}
"""Arguments of Python, by server."""

CHAT = """
import asyncio
from pathlib import Path

from bargein_server import Settings, create_app

def note(line):
    with open("events", "a") as file:
        file.write(line + "\\n")

class Agent:
    async def startup(self):
        note("startup")

    async def shutdown(self):
        note("shutdown")

    async def __call__(self, turn):
        yield "one "
        while not Path("go").exists():
            await asyncio.sleep(0.01)
        yield "two"

chat = create_app(Agent(), Settings(drain_s=30))
"""
"""The `chat.py` of the tests: an agent that waits for the file `go` in the middle of its answer."""


class Site:
    """An application that runs.

    Attributes:
        port: The port on 127.0.0.1.
        process: The process of its server.
        folder: Its working directory.
    """

    def __init__(self, port: int, process: asyncio.subprocess.Process, folder: Path) -> None:
        self.port = port
        self.process = process
        self.folder = folder

    @property
    def events(self) -> list[str]:
        """Starts and stops of the agent so far."""
        path = self.folder / "events"
        return path.read_text().split() if path.exists() else []

    @property
    def log(self) -> str:
        """Output of the server so far."""
        return (self.folder / "log").read_text()

    def connect(self) -> Any:
        """Connect a WebSocket to the chat."""
        return connect(f"ws://127.0.0.1:{self.port}/chat/v1/session", compression=None, proxy=None)


@asynccontextmanager
async def embedded(folder: Path, site: str, server: str, source: str | None = None) -> AsyncIterator[Site]:
    """Run an application of the guide until the block ends.

    Args:
        folder: An empty folder.
        site: Name of the module in the guide.
        server: The server.
        source: The module itself, in place of the guide's.
    """
    for block in blocks("server/docs/embedding.md", "python"):
        if block.file is not None:
            (folder / block.file).write_text(block.text)
    (folder / "chat.py").write_text(CHAT)
    if source is not None:
        (folder / f"{site}.py").write_text(source)
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *COMMANDS[server].format(site=site, port=port).split(),
            cwd=folder, env={**environment(), "PYTHONPATH": str(folder)},
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        running = Site(port, process, folder)
        try:
            await _until_it_answers(running)
            yield running
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _until_it_answers(site: Site) -> None:
    async with asyncio.timeout(6 * WAIT_S):
        while True:
            assert site.process.returncode is None, site.log
            with suppress(OSError, IndexError):
                if (await request(site.port, "/chat/healthz"))[0] == 200:
                    return
            await asyncio.sleep(0.05)


__all__ = ["CHAT", "COMMANDS", "FRAMEWORKS", "ClientConnection", "Site", "embedded"]
