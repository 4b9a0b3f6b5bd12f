"""`run` and `serve`: a server from a program of one's own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from bargein_server import BearerTokens, NotAnAgent, NotProtected, NotStarted, Settings, Turn, run, serve
from bargein_server.launcher import Launcher, print_address
from live_server import RawClient, request
from waiting import WAIT_S

PROGRAM = """
import asyncio
from bargein_server import Settings, run, serve

async def slow(turn):
    while True:
        yield "word "
        await asyncio.sleep(0.01)

SETTINGS = Settings(drain_s=0.1, cleanup_grace_s=0.1, cleanup_kill_s=0.1)

if __name__ == "__main__":
    {call}
"""
CALLS = {
    "run": "run(slow, port=0, settings=SETTINGS)",
    "serve": "asyncio.run(serve(slow, port=0, settings=SETTINGS))",
}


async def agent(turn: Turn) -> AsyncIterator[str]:
    yield "hello"


async def not_an_agent(turn: Turn) -> None:
    pass


class Broken:
    """An agent whose start fails."""

    async def startup(self) -> None:
        raise RuntimeError("no model")

    async def __call__(self, turn: Turn) -> AsyncIterator[str]:
        yield "never"


@pytest.fixture(autouse=True)
def tuned(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Calls of `tune_gc`, which would change this whole process."""
    calls: list[bool] = []
    monkeypatch.setattr("bargein_server.launcher.tune_gc", lambda: calls.append(True))
    return calls


@asynccontextmanager
async def program(folder: Path, call: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program that serves an agent with `call`."""
    file = folder / "program.py"
    file.write_text(PROGRAM.format(call=call), "utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(file),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ.copy(),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("call", CALLS)
async def test_it_prints_the_address_and_ends_turns_on_ctrl_c(tmp_path: Path, call: str) -> None:
    """The lines are those of `bargein-server`; a turn gets its end before its connection does."""
    async with program(tmp_path, CALLS[call]) as process:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            lines = [(await process.stdout.readline()).decode() for _ in range(3)]
        url = lines[0].split()[-1]
        assert re.fullmatch(r"ws://localhost:\d+/v1/session", url)
        page = url.replace("ws:", "http:").removesuffix("v1/session")
        assert lines == [
            f"bargein serves slow at {url}\n",
            f"talk to it:  bargein chat {url}\n",
            f"or open      {page}\n",
        ]
        async with connect(url, proxy=None) as connection:
            client = RawClient(connection)
            await client.send({"type": "input.text", "id": "i", "text": "hello"})
            await client.until("text.delta")
            process.send_signal(signal.SIGINT)
            end = await client.until("turn.ended")
            assert (end["status"], end["reason"]) == ("failed", "shutdown")
            assert (await client.closed())[0] == 1012
        async with asyncio.timeout(WAIT_S):
            await process.wait()


async def test_a_cancelled_serve_ends_turns_before_it_returns(tuned: list[bool]) -> None:
    """The connection is closed in the server's own order, and the cancellation is passed on."""
    settings = Settings(drain_s=0)
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def slow(turn: Turn) -> AsyncIterator[str]:
        yield "word"
        await asyncio.Event().wait()

    launcher = Launcher(slow, port=0, settings=settings, announce=lambda name, url: listening.set_result(url))
    serving = asyncio.create_task(launcher.serve())
    async with asyncio.timeout(WAIT_S), connect(await listening, proxy=None) as connection:
        client = RawClient(connection)
        await client.send({"type": "input.text", "id": "i", "text": "hello"})
        await client.until("text.delta")
        serving.cancel()
        assert (await client.until("turn.ended"))["reason"] == "shutdown"
        assert (await client.closed())[0] == 1012
        with pytest.raises(asyncio.CancelledError):
            await serving
    assert tuned == [True]


@pytest.mark.parametrize("host", ["0.0.0.0", "example.com", "::"])
async def test_a_public_address_needs_an_authenticator(host: str) -> None:
    """As on the command line; `insecure` allows it."""
    with pytest.raises(NotProtected, match=r"other machines.*--tokens FILE or authenticator=.*insecure=True"):
        await serve(agent, host)
    Launcher(agent, host, insecure=True)
    Launcher(agent, host, authenticator=BearerTokens({"secret": "ann"}))


async def test_a_function_that_is_no_agent_is_refused() -> None:
    """Before anything listens."""

    async def no_yield(turn: Turn) -> None:
        pass

    with pytest.raises(NotAnAgent):
        await serve(no_yield)  # type: ignore[arg-type]


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    """It comes from `listen`, or from `serve` itself, and has the address and a remedy."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}: .* in use.*port 0"):
            await serve(agent, port=port)


def test_run_ends_with_one_line_when_the_port_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """`run` is the last line of a program: no traceback, and the status of `bargein-server`."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit) as exit_:
            run(agent, port=port)
    assert exit_.value.code == 3
    error = capsys.readouterr().err
    assert error.startswith(f"bargein: cannot listen on 127.0.0.1:{port}: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run(not_an_agent), "not_an_agent() has no yield"),  # type: ignore[arg-type]
        (lambda: run(agent, "0.0.0.0"), "0.0.0.0 can be reached from other machines"),
    ],
    ids=["no yield", "not protected"],
)
def test_run_ends_with_one_line_for_wrong_arguments(
    call: Callable[[], None], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, no traceback."""
    with pytest.raises(SystemExit) as exit_:
        call()
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_run_exits_when_the_agent_does_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    """The status of `bargein-server`."""
    with pytest.raises(SystemExit) as exit_:
        run(Broken(), port=0)
    assert exit_.value.code == 3
    assert "did not start" in capsys.readouterr().err


@pytest.mark.parametrize("call", CALLS)
async def test_the_token_of_the_environment_counts(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for `bargein-server`: a server that is meant to be protected never admits everybody."""
    monkeypatch.setenv("BARGEIN_TOKEN", "secret")
    async with program(tmp_path, CALLS[call]) as process:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            url = (await process.stdout.readline()).decode().split()[-1]
        port = int(url.split(":")[2].partition("/")[0])
        assert (await request(port, "/v1/tickets", "POST"))[0] == 401
        assert (await request(port, "/v1/tickets", "POST", Authorization="Bearer secret"))[0] == 201


async def test_an_authenticator_takes_precedence_over_the_token_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The program decides."""
    monkeypatch.setenv("BARGEIN_TOKEN", "secret")
    call = CALLS["run"].replace("port=0", "port=0, authenticator=BearerTokens({'other': 'ann'})")
    async with program(tmp_path, "from bargein_server import BearerTokens; " + call) as process:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            url = (await process.stdout.readline()).decode().split()[-1]
        port = int(url.split(":")[2].partition("/")[0])
        for token, status in [("secret", 401), ("other", 201)]:
            answer = await request(port, "/v1/tickets", "POST", Authorization=f"Bearer {token}")
            assert answer[0] == status


async def test_an_agent_that_does_not_start_is_an_error() -> None:
    """Its own exception is in the log of uvicorn."""
    with pytest.raises(NotStarted):
        await serve(Broken(), port=0)


async def test_the_address_has_the_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines of the start can be copied as they are."""
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    launcher = Launcher(
        agent, port=0, root_path="/chat", announce=lambda name, url: listening.set_result(url)
    )
    serving = asyncio.create_task(launcher.serve())
    async with asyncio.timeout(WAIT_S):
        url = await listening
        async with connect(url, proxy=None):
            pass
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
    print_address("agent", url)
    page = url.replace("ws", "http", 1).removesuffix("v1/session")
    assert f"bargein chat {url}\nor open      {page}\n" in capsys.readouterr().out


async def test_the_settings_and_origins_reach_the_server() -> None:
    """Metrics are served when they are asked for."""
    listening: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    launcher = Launcher(
        agent, port=0, settings=Settings(metrics=True), announce=lambda name, url: listening.set_result(url)
    )
    serving = asyncio.create_task(launcher.serve())
    async with asyncio.timeout(WAIT_S):
        port = int((await listening).split(":")[2].partition("/")[0])
        assert (await request(port, "/metrics"))[0] == 200
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
