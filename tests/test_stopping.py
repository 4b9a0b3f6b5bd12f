"""How a server process ends: by signals, by exits of agents, and never by waiting for an agent.

Real processes and real signals: each test is about what is left of a process.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from live_server import RawClient
from processes import environment
from waiting import WAIT_S

PROGRAM = """
import asyncio, os, sys, threading, time
import uvloop
from contextlib import suppress
from bargein_server import Settings
from bargein_server.launcher import Launcher

async def stubborn():
    print("hangs", flush=True)
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)

class Agent:
    startup_hangs = shutdown_hangs = False

    async def startup(self):
        if self.startup_hangs:
            await stubborn()

    async def shutdown(self):
        print("shutdown", flush=True)
        if self.shutdown_hangs:
            await stubborn()

    async def __call__(self, turn):
        yield "hello "
        if turn.text == "exit":
            async def tool():
                sys.exit(5)
            turn.spawn(tool())
            await asyncio.sleep(0)
        elif turn.text == "exit in a task of its own":
            async def tool():
                sys.exit(5)
            asyncio.create_task(tool())
            await asyncio.sleep(0)
        elif turn.text == "exit in a task group":
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.to_thread(turn.text.upper))
                async def tool():
                    sys.exit(5)
                group.create_task(tool())
        elif turn.text == "exit in a callback":
            asyncio.get_running_loop().call_soon(sys.exit, 5)
        elif turn.text == "exit in a thread":
            await asyncio.to_thread(sys.exit, 5)
        elif turn.text == "block a thread":
            asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
        elif turn.text == "task that never ends":
            Agent.task = asyncio.create_task(stubborn())
        await asyncio.sleep(3600)

agent = Agent()
settings = dict(drain_s=0.1, cleanup_grace_s=0.1, cleanup_kill_s=0.1)
how = "run"
{prepare}
launcher = Launcher(agent, port=0, settings=Settings(**settings))
if how == "run":
    launcher.run()
else:
    asyncio.run(launcher.serve())
"""


class Process:
    """A server process and its output."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.url = ""
        self.errors = ""

    async def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            return (await self.process.stdout.readline()).decode().strip()

    async def until(self, printed: str) -> None:
        """Wait until it has printed such a line."""
        while printed not in (line := await self.line()):
            assert line, f"expected {printed!r}, got the end of the output"

    async def over(self) -> int:
        """Wait for its end; returns its status."""
        assert self.process.stderr is not None
        async with asyncio.timeout(WAIT_S):
            self.errors = (await self.process.stderr.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def started(folder: Path, prepare: str = "", *, listens: bool = True) -> AsyncIterator[Process]:
    """Run the program; `prepare` are statements before it serves."""
    file = folder / "program.py"
    file.write_text(PROGRAM.replace("{prepare}", prepare), "utf-8")
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(file),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(),
    )  # fmt: skip
    process = Process(child)
    try:
        if listens:
            process.url = (await process.line()).split()[-1]
        yield process
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


@asynccontextmanager
async def talking(process: Process, text: str = "hello") -> AsyncIterator[RawClient]:
    """Connect a client whose turn has begun to answer."""
    async with connect(process.url, proxy=None) as connection:
        client = RawClient(connection)
        await client.send({"type": "input.text", "id": "i", "text": text})
        await client.until("text.delta")
        yield client


async def goes_on(process: Process, other: RawClient) -> None:
    """Check that a server and its other sessions noticed nothing; this ends it."""
    await other.send({"type": "ping", "id": "p"})
    await other.until("pong")
    process.process.send_signal(signal.SIGTERM)
    assert (await other.until("turn.ended"))["reason"] == "shutdown"
    assert await process.over() == -signal.SIGTERM
    assert "the server stops" not in process.errors


LOOPS = {"asyncio": "sys.modules['uvloop'] = None", "uvloop": ""}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("text", ["exit", "exit in a task of its own", "exit in a thread"])
async def test_an_exit_of_an_agent_is_a_failure_of_its_call(tmp_path: Path, text: str, loop: str) -> None:
    """In tasks of the turn, however they are made, and in a thread: the other sessions do not notice."""
    async with started(tmp_path, LOOPS[loop]) as process, talking(process) as other:
        async with talking(process, text):
            await goes_on(process, other)


@pytest.mark.parametrize("how", ["run", "serve"])
async def test_an_exit_in_a_task_group_fails_the_turn(tmp_path: Path, how: str) -> None:
    """As any exception there does; the server goes on, in a loop of its own or of the program."""
    async with started(tmp_path, f"how = {how!r}") as process, talking(process) as other:
        async with talking(process, "exit in a task group") as client:
            ended = await client.until("turn.ended")
            assert (ended["status"], ended["reason"]) == ("failed", "agent_error")
        await goes_on(process, other)


@pytest.mark.parametrize("loop", LOOPS)
async def test_an_exit_that_leaves_the_loop_ends_the_turns_first(tmp_path: Path, loop: str) -> None:
    """Of a callback, whose turn is not known; the status is the one that was asked for."""
    async with started(tmp_path, LOOPS[loop]) as process, talking(process) as other:
        async with talking(process, "exit in a callback"):
            assert (await other.until("turn.ended"))["reason"] == "shutdown"
            assert (await other.closed())[0] == 1012
        assert await process.over() == 5
        assert "raised SystemExit: the server stops" in process.errors


async def test_an_exit_that_leaves_the_loop_of_a_program_ends_the_turns_first(tmp_path: Path) -> None:
    """The loop of `asyncio.run`, which cancels every task; connections are closed by the server."""
    async with started(tmp_path, "how = 'serve'") as process, talking(process) as other:
        async with talking(process, "exit in a callback"):
            assert (await other.until("turn.ended"))["status"] == "failed"
            assert (await other.closed())[0] == 1012
        await process.until("shutdown")
        assert await process.over() == 5


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
async def test_a_signal_ends_the_turns_first(tmp_path: Path, name: str) -> None:
    """Also the one that a closed terminal sends, unless it was ignored from the start."""
    async with started(tmp_path) as process, talking(process) as client:
        process.process.send_signal(getattr(signal, name))
        assert (await client.until("turn.ended"))["reason"] == "shutdown"
        assert (await client.closed())[0] == 1012
        await process.until("shutdown")
        await process.over()
        assert process.errors == ""


async def test_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    """As `nohup` arranges it."""
    prepare = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    async with started(tmp_path, prepare) as process, talking(process) as client:
        process.process.send_signal(signal.SIGHUP)
        await client.send({"type": "ping", "id": "p"})
        await client.until("pong")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
async def test_a_signal_ends_a_startup_that_hangs(tmp_path: Path, name: str) -> None:
    """Even if it swallows its cancel; in one line."""
    async with started(tmp_path, "agent.startup_hangs = True", listens=False) as process:
        await process.until("hangs")
        process.process.send_signal(getattr(signal, name))
        await process.over()
        assert "asked to stop before the agent's startup() had ended" in process.errors
        assert "Traceback" not in process.errors


async def test_startup_s(tmp_path: Path) -> None:
    """A startup that takes longer ends the process, which says what to do."""
    prepare = "agent.startup_hangs = True; settings['startup_s'] = 0.1"
    async with started(tmp_path, prepare, listens=False) as process:
        assert await process.over() == 1  # a task that does not end
        assert "startup() took longer than 0.1 s; if it needs more, set --startup-s" in process.errors
        assert "Traceback" not in process.errors


@pytest.mark.parametrize("signals", [1, 2])
async def test_shutdown_s(tmp_path: Path, signals: int) -> None:
    """A shutdown that takes longer is left behind; a second signal does not wait for its time."""
    prepare = f"agent.shutdown_hangs = True; settings['shutdown_s'] = {0.1 if signals == 1 else 1e9}"
    async with started(tmp_path, prepare) as process:
        process.process.send_signal(signal.SIGINT)
        await process.until("hangs")
        if signals == 2:
            process.process.send_signal(signal.SIGINT)
        assert await process.over() == 1
        assert "the agent's shutdown() was cancelled after" in process.errors
        assert "Traceback" not in process.errors


async def test_a_second_signal_does_not_wait_for_turns(tmp_path: Path) -> None:
    """They end with `shutdown`, as they would later."""
    async with started(tmp_path, "settings['drain_s'] = 1e9") as process, talking(process) as client:
        process.process.send_signal(signal.SIGTERM)
        await client.until("goaway")
        process.process.send_signal(signal.SIGTERM)
        assert (await client.until("turn.ended"))["reason"] == "shutdown"
        assert await process.over() == -signal.SIGTERM
        assert "Traceback" not in process.errors


async def test_a_third_signal_kills(tmp_path: Path) -> None:
    """Even while an agent blocks the event loop."""
    prepare = """
async def block():
    print("blocks", flush=True)
    while True:
        time.sleep(0.01)
agent.shutdown = block"""
    async with started(tmp_path, prepare) as process:
        process.process.send_signal(signal.SIGTERM)
        await process.until("blocks")
        for _ in range(2):
            await asyncio.sleep(0.1)  # signals of one kind that wait are one signal
            process.process.send_signal(signal.SIGTERM)
        assert await process.over() == -signal.SIGTERM
        assert "Traceback" not in process.errors


@pytest.mark.parametrize("text", ["block a thread", "task that never ends"])
async def test_the_process_does_not_wait_for_what_never_ends(tmp_path: Path, text: str) -> None:
    """Neither for threads of Python's own executor, nor for tasks that the server does not know."""
    async with started(tmp_path) as process, talking(process, text):
        process.process.send_signal(signal.SIGINT)
        assert await process.over() == 1
        assert "do not end: exiting without them" in process.errors
        assert "Traceback" not in process.errors


async def test_ctrl_c_while_the_agent_is_imported(tmp_path: Path) -> None:
    """Frameworks take seconds to import, and a stop meanwhile is no error."""
    (tmp_path / "slow.py").write_text("import time\nprint('imports', flush=True)\ntime.sleep(60)\n")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "slow:agent", cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=environment(),
    )  # fmt: skip
    process = Process(child)
    try:
        assert await process.line() == "imports"
        child.send_signal(signal.SIGINT)
        assert await process.over() == 130
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
    assert process.errors == ""


def test_a_launcher_serves_once() -> None:
    """Its server and socket are used up."""
    from bargein_server.launcher import Launcher

    async def agent(turn: object) -> AsyncIterator[str]:
        yield "never"

    launcher = Launcher(agent)
    launcher._used = True
    with pytest.raises(RuntimeError, match="serves once"):
        launcher.run()


async def test_a_fault_of_the_server_ends_the_turns_first(tmp_path: Path) -> None:
    """Of its main loop, which is code of uvicorn; the fault is raised afterwards."""
    prepare = """
from bargein_server.serving.server import Server
async def on_tick(self, counter):
    if os.path.exists("fault"):
        raise RuntimeError("fault")
    return False
Server.on_tick = on_tick
os.chdir(os.path.dirname(__file__))"""
    async with started(tmp_path, prepare) as process, talking(process) as client:
        (tmp_path / "fault").touch()
        assert (await client.until("turn.ended"))["reason"] == "shutdown"
        assert (await client.closed())[0] == 1012
        assert await process.over() == 1
        assert "RuntimeError: fault" in process.errors
