"""The snippets of the README run, and it stays short."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from documentation import ROOT, blocks, commands
from waiting import WAIT_S

README = "README.md"
[SERVER, CLIENT] = blocks(README, "python")
[BROWSER] = blocks(README, "js")
URL = "ws://localhost:8000"


async def run(*arguments: str, cwd: Path) -> str:
    """Run a command to its end and return its output; any other exit code than 0 fails the test."""
    process = await asyncio.create_subprocess_exec(
        *arguments, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(2 * WAIT_S):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@asynccontextmanager
async def hello(folder: Path, *command: str) -> AsyncIterator[str]:
    """Run the README's server, on a free port, and give its address."""
    (folder / "hello.py").write_text(SERVER.text.replace("port=8000", "port=0"))
    server = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=folder, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = (await server.stdout.readline()).decode()
        yield line.split()[-1]
    finally:
        server.kill()
        await server.communicate()


@pytest.mark.parametrize(
    "command",
    [("hello.py",), ("-m", "bargein_server", "hello:agent", "--port", "0")],
    ids=["run", "bargein-server"],
)
async def test_the_server_and_the_client_talk(command: tuple[str, ...], tmp_path: Path) -> None:
    """Both ways to serve `hello.py`, and the client's program against them: cut after some words."""
    async with hello(tmp_path, *command) as url:
        (tmp_path / "client.py").write_text(CLIENT.text.replace(URL, url))
        output = await run(sys.executable, "client.py", cwd=tmp_path)
    assert output.startswith("You said: Tell me ")
    assert "status='interrupted'" in output


async def test_the_javascript_client_talks(tmp_path: Path) -> None:
    """The same program in JavaScript; Node.js 20 has a WebSocket of its own only behind an option."""
    node = shutil.which("node")
    assert node is not None, "this test needs Node.js"
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "bargein").symlink_to(ROOT / "clients" / "web")
    async with hello(tmp_path, "-m", "bargein_server", "hello:agent", "--port", "0") as url:
        (tmp_path / "client.mjs").write_text(BROWSER.text.replace(URL, url))
        output = await run(node, "--experimental-websocket", "client.mjs", cwd=tmp_path)
    assert output.startswith("You said: Tell me ")
    assert "interrupted" in output


async def test_curl_shows_the_answer(tmp_path: Path) -> None:
    """The printed command shows the events that are printed below it."""
    [command] = [command for command in commands(README) if command.startswith("curl")]
    async with hello(tmp_path, "-m", "bargein_server", "hello:agent", "--port", "0") as url:
        host = url.removeprefix("ws://").partition("/")[0]
        output = await run(*shlex.split(command.replace("localhost:8000", host)), "-s", cwd=tmp_path)
    assert "event: text.delta\n" in output
    assert '"seq":4' in output
    assert '"text":"You "' in output
    assert "event: turn.ended" in output


def test_it_is_short() -> None:
    """At most 150 lines and 900 words; and the pictures are small."""
    text = (ROOT / README).read_text("utf-8")
    assert text.count("\n") <= 150
    assert len(text.split()) <= 900
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (ROOT / picture).stat().st_size <= 1_500_000
