"""What the README shows is run."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from bargein_server import Turn
from live_server import serving
from model_server import Upstream
from waiting import WAIT_S

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
SERVER, CLIENT, AGENT, CHAT = BLOCKS


async def run(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Run Python and return its exit code and its output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(2 * WAIT_S):
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_the_server_and_the_client_talk(tmp_path: Path) -> None:
    """`bargein-server hello:agent`, and the client's program against it: cut after four words."""
    (tmp_path / "hello.py").write_text(SERVER)
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "hello:agent", "--port", "0",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        async with asyncio.timeout(WAIT_S):
            url = (await server.stdout.readline()).decode().split()[-1]
        (tmp_path / "client.py").write_text(CLIENT.replace("ws://localhost:8000/v1/session", url))
        code, output = await run("client.py", cwd=tmp_path)
    finally:
        server.kill()
        await server.communicate()
    assert code == 0, output
    assert output.startswith("You said: Tell me  TurnEnded(")
    assert "status='interrupted'" in output


async def test_curl_shows_the_answer(tmp_path: Path) -> None:
    """The command as it is printed, against the server as it is printed; and the events that it shows."""
    [(command, shown)] = re.findall(
        r"^\$ (curl .*)\n((?:.*\n)*?)```", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE
    )
    async with serving(block(SERVER, "agent")) as server:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(command.replace("localhost:8000", f"127.0.0.1:{server.port}")),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        async with asyncio.timeout(2 * WAIT_S):
            output = (await process.communicate())[0].decode()
    for line in shown.splitlines():
        if line.startswith("event: "):
            assert line in output.splitlines()
    assert '"seq":4' in output
    assert '"text":"You "' in output
    assert "event: turn.ended" in output


def block(source: str, name: str) -> Any:
    """Execute a block and return what it defines."""
    scope: dict[str, Any] = {"Turn": Turn}
    exec(compile(source, "README.md", "exec"), scope)
    return scope[name]


async def test_the_agent_that_shows_what_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of it runs."""
    async with serving(block(AGENT, "agent")) as server, server.connect() as client:
        await client.send({"type": "input.text", "id": "i", "text": "hello"})
        end = await client.until("turn.ended")
        assert (end["status"], end["reason"], end["retryable"]) == ("failed", "upstream", True)
        assert [frame["type"] for frame in client.frames[3:7]] == [
            "thought", "progress", "text.delta", "text.delta",
        ]  # fmt: skip
    assert capsys.readouterr().out == "ended because: None\n"


async def test_the_agent_with_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The careless loop streams, and its stream ends with the turn."""
    async with Upstream() as upstream:
        monkeypatch.setenv("OPENAI_BASE_URL", upstream.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        async with serving(block(CHAT, "chat")) as server, server.connect() as client:
            await client.send({"type": "input.text", "id": "i", "text": "hello"})
            call = await upstream.call()
            call.open()
            call.text("Hi")
            await client.until("text.delta")
            await client.send({"type": "interrupt", "id": "x", "input_id": "i"})
            await client.until("turn.ended")
            assert await call.gone() in ("eof", "reset")


def test_every_file_that_the_readme_names_exists() -> None:
    """The table of ideas points at files that are there."""
    text = (ROOT / "README.md").read_text("utf-8")
    table = text[text.index("## Where things are") :]
    for name in re.findall(r"`([a-z_/]+\.py|[a-z_/]+/)`", table):
        candidates = [ROOT / name, ROOT / "server" / "bargein_server" / name]
        assert any(path.exists() for path in candidates), name
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (ROOT / link.partition("#")[0]).exists(), link
