"""`bargein-server --reload`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import IO

import bargein_client
from waiting import WAIT_S, until

AGENT = """
async def agent(turn):
    yield "{word}"
"""


async def ask(url: str) -> str:
    """Return the answer of the server, once it listens."""
    async with bargein_client.connect(url) as session:
        turn = session.send("hello")
        await turn.ended()
        return turn.text


async def start(folder: Path, errors: IO[bytes]) -> asyncio.subprocess.Process:
    """Run the command in a folder, as the leader of a group of processes."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "hello:agent", "--reload", "--port", "0", "--store", "none",
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True,
    )  # fmt: skip


async def test_a_change_is_served(tmp_path: Path) -> None:
    """Also after a change that does not compile; Ctrl-C ends both processes."""
    file = tmp_path / "hello.py"
    file.write_text(AGENT.format(word="one"))
    log = tmp_path / "log"
    with log.open("wb") as errors:
        process = await start(tmp_path, errors)
    assert process.stdout is not None

    async def address() -> str:
        async with asyncio.timeout(3 * WAIT_S):
            while process.stdout is not None:
                line = (await process.stdout.readline()).decode()
                if found := re.search(r"serves \S+ at (ws\S+)", line):
                    return found[1]
        raise AssertionError("no address")

    try:
        assert await ask(await address()) == "one"
        file.write_text("async def agent(turn)")
        await until(lambda: "SyntaxError" in log.read_text(), "the failed start")
        file.write_text(AGENT.format(word="two"))
        assert await ask(await address()) == "two"
    finally:
        os.killpg(process.pid, signal.SIGINT)
        async with asyncio.timeout(3 * WAIT_S):
            await process.communicate()
