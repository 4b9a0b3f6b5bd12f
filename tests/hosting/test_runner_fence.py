"""The runner at the fence: what it closes in that step, and what does not wait for the agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from bargein_server import Output, Turn
from bargein_server.hosting.upstream import TURN_STREAMS
from memory_client import Line, serve


@pytest.mark.virtual_time
async def test_the_turn_after_an_abandoned_one_starts() -> None:
    """Also where turns wait for cleanups: it waits for the bound, not for the agent."""
    release = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield turn.text
        while turn.text == "stubborn" and not release.is_set():
            with suppress(asyncio.CancelledError):
                await release.wait()

    line = Line(serve(agent, cleanup="wait"))
    turn = line.ask("stubborn")
    await line.until("text.delta")
    line.interrupt(turn)
    line.ask("next")
    try:
        await asyncio.sleep(2.4)
        assert line.texts() == ["stubborn"]
        await asyncio.sleep(0.2)
        assert line.texts() == ["stubborn", "next"]
    finally:
        release.set()


async def test_the_fence_closes_what_is_open_upstream() -> None:
    """In its own step, after the cancel and whatever the agent's cleanup waits for (contract 6)."""
    closed: list[int] = []

    class Request:
        """One that tells how often its task was cancelled before it."""

        def cancel(self) -> None:
            assert task is not None
            closed.append(task.cancelling())

    task: asyncio.Task[Any] | None = None

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        nonlocal task
        task = asyncio.current_task()
        streams = TURN_STREAMS.get()
        assert streams is not None
        request = Request()
        streams.enter(request)
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            streams.leave(request)

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    assert closed == [1]
