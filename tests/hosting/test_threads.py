"""Threads of authors: a session that blocks all of its own delays no other one."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest

from bargein_protocol import SessionId
from bargein_server import Output, Settings, Turn
from bargein_server.agent import NoThreadFree
from bargein_server.core.author_code import AuthorExit
from bargein_server.hosting.threads import AuthorThreads
from memory_client import Line, serve
from waiting import WAIT_S

ANN, BOB, CAT = SessionId("ann"), SessionId("bob"), SessionId("cat")


class Blocked:
    """Function that blocks until it is released.

    Attributes:
        begun: Whether it runs in a thread.
    """

    def __init__(self) -> None:
        self.begun = threading.Event()
        self._go = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        self._go.wait(WAIT_S)
        return "done"

    def release(self) -> None:
        """Let it return."""
        self._go.set()


@pytest.fixture
async def blocked() -> AsyncIterator[list[Blocked]]:
    """Functions that are released at the end."""
    functions = [Blocked() for _ in range(4)]
    yield functions
    for function in functions:
        function.release()


def threads(**settings: Any) -> AuthorThreads:
    return AuthorThreads(asyncio.get_running_loop(), Settings(**settings))


async def test_max_threads_per_session(blocked: list[Blocked]) -> None:
    """One more waits until one returns; another session does not."""
    pool = threads(max_threads_per_session=2)
    first, second, third = (pool.run(ANN, function) for function in blocked[:3])
    assert (pool.busy, pool.waiting) == (2, 1)
    async with asyncio.timeout(WAIT_S):
        assert await pool.run(BOB, lambda: "mine") == "mine"
        assert not blocked[2].begun.is_set()
        blocked[0].release()
        blocked[2].release()
        assert [await first, await third] == ["done", "done"]
        assert not second.done()
        blocked[1].release()
        await second
    assert (pool.busy, pool.waiting) == (0, 0)


async def test_max_threads(blocked: list[Blocked]) -> None:
    """One more waits for a thread of any session."""
    pool = threads(max_threads=2)
    pool.run(ANN, blocked[0])
    pool.run(BOB, blocked[1])
    late = pool.run(CAT, lambda: "late")
    assert pool.waiting == 1
    blocked[0].release()
    async with asyncio.timeout(WAIT_S):
        assert await late == "late"


@pytest.mark.virtual_time
async def test_thread_wait_s(blocked: list[Blocked], caplog: pytest.LogCaptureFixture) -> None:
    """A call that waits longer fails, and the log names the settings."""
    caplog.set_level(logging.WARNING)
    pool = threads(max_threads_per_session=1, thread_wait_s=30)
    pool.run(ANN, blocked[0])
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(NoThreadFree, match="within 30 s"):
        await pool.run(ANN, blocked[1])
    assert loop.time() - began == pytest.approx(30, abs=0.1)
    assert not blocked[1].begun.is_set()
    assert pool.waiting == 0
    [record] = caplog.records
    assert "--max-threads-per-session" in record.getMessage()
    assert record.exc_info is None


async def test_a_cancelled_call_does_not_begin(blocked: list[Blocked]) -> None:
    """It leaves the line, and the next one is not held up."""
    pool = threads(max_threads_per_session=1)
    pool.run(ANN, blocked[0])
    unwanted, wanted = pool.run(ANN, blocked[1]), pool.run(ANN, lambda: "wanted")
    unwanted.cancel()
    await asyncio.sleep(0)
    assert pool.waiting == 1
    blocked[0].release()
    async with asyncio.timeout(WAIT_S):
        assert await wanted == "wanted"
    assert not blocked[1].begun.is_set()


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(1), StopIteration()])
async def test_an_error_is_that_of_the_call(error: BaseException) -> None:
    """An exit is an exception, and a `StopIteration` is not lost."""

    def fails() -> None:
        raise error

    with pytest.raises((ValueError, AuthorExit)):
        async with asyncio.timeout(WAIT_S):
            await threads().run(ANN, fails)


async def test_a_system_without_threads_fails_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the place is free again."""

    def refuses(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = threads()
    monkeypatch.setattr(threading.Thread, "start", refuses)
    with pytest.raises(NoThreadFree):
        await pool.run(ANN, lambda: "never")
    assert pool.busy == 0


async def test_the_process_ends_without_a_thread_that_blocks() -> None:
    """Neither the event loop nor the interpreter waits for it."""
    program = """
import asyncio, threading
from bargein_server import Output, Settings, Turn
from bargein_server.hosting.threads import AuthorThreads

async def main():
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    def block():
        loop.call_soon_threadsafe(begun.set)
        threading.Event().wait()
    call = AuthorThreads(loop, Settings()).run("ann", block)
    await begun.wait()

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    try:
        async with asyncio.timeout(WAIT_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


WORD: ContextVar[str] = ContextVar("WORD", default="")


async def test_a_function_of_an_agent_runs_in_the_context_of_its_turn() -> None:
    """As in `asyncio.to_thread`; another thread is not the loop's."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        WORD.set("mine")
        loop_thread = threading.current_thread()
        yield await turn.tools.run_in_thread(WORD.get)
        yield str(await turn.tools.run_in_thread(threading.current_thread) is not loop_thread)

    line = Line(serve(agent))
    line.ask()
    await line.until("turn.ended")
    assert "".join(line.texts()) == "mineTrue"
