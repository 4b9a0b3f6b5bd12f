"""`@copilotkit/aimock`: a foreign OpenAI-compatible server as a process.

It is installed from npm into the user's cache when a test first needs it. Without Node.js that test
fails: a skip would look like a success.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from npm import installed

VERSION = "1.43.0"
WAIT_S = 60.0
"""For npm and for the start of a process; only a failure takes this long."""

Fixture = dict[str, Any]


async def command_line() -> list[str]:
    """Return the command, installed if need be."""
    node = shutil.which("node")
    if node is None:
        pytest.fail("this test needs Node.js, for the package @copilotkit/aimock")
    return [node, str(await installed("@copilotkit/aimock", VERSION, "dist/cli.js"))]


class Aimock:
    """The server that runs.

    Attributes:
        url: The base URL for clients.
    """

    def __init__(self, origin: str) -> None:
        self.url = f"{origin}/v1"
        self._origin = origin

    async def requests(self) -> list[dict[str, Any]]:
        """Return the bodies of the requests so far."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            journal = (await client.get(f"{self._origin}/__aimock/journal")).json()
        return [entry["body"] for entry in journal]


@asynccontextmanager
async def aimock(tmp_path: Path, fixtures: Sequence[Fixture], *options: str) -> AsyncIterator[Aimock]:
    """Run the server with its answers; a request without a match gets 503."""
    file = tmp_path / "fixtures.json"
    file.write_text(json.dumps({"fixtures": list(fixtures)}))
    process = await asyncio.create_subprocess_exec(
        *await command_line(), "--port", "0", "--fixtures", str(file), "--strict", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            found = None
            while found is None:
                line = await process.stdout.readline()
                assert line, "aimock ended before it listened"
                found = re.search(rb"http://127\.0\.0\.1:\d+", line)
        yield Aimock(found[0].decode())
    finally:
        process.kill()
        await process.communicate()
