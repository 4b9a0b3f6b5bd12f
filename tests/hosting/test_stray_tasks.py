"""Tasks that agents make themselves and that outlive their turn are named in the log, once."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from bargein_server import Agent, Output, Turn
from bargein_server.serving.server import exits_contained
from bargein_server.streams import from_callbacks
from memory_client import Line, serve

pytestmark = pytest.mark.virtual_time

KEPT: list[asyncio.Task[Any]] = []


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    """End what the agents left."""
    yield
    for task in KEPT:
        task.cancel()
    KEPT.clear()


async def runs_on(seconds: float = 3600) -> None:
    await asyncio.sleep(seconds)


async def names(agent: Agent, caplog: pytest.LogCaptureFixture, turns: int = 1) -> list[str]:
    """Run turns and interrupt them; return the log's lines."""
    with exits_contained():
        line = Line(serve(agent))
        for _ in range(turns):
            turn = line.ask()
            await line.until("text.delta")
            await asyncio.sleep(0.1)
            line.interrupt(turn)
            await asyncio.sleep(10)
            line.events.clear()
    return [record.getMessage() for record in caplog.records]


async def test_a_task_that_outlives_its_turn_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the function, where it stands, and the remedy; whatever the number of turns and tasks."""

    async def executor() -> None:
        await runs_on()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        KEPT.extend(asyncio.create_task(executor()) for _ in range(3))
        yield "one"
        await asyncio.Event().wait()

    [message] = await names(agent, caplog, turns=3)
    assert "executor (test_stray_tasks.py:" in message
    assert "turn.spawn()" in message
    assert "from_callbacks()" in message
    assert len(KEPT) == 9
    assert not any(task.done() for task in KEPT)


async def test_a_task_of_a_task_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    """Also when the turn completes, and when the first task was the turn's own."""

    async def deeper() -> None:
        await runs_on()

    async def outer() -> None:
        KEPT.append(asyncio.create_task(deeper()))

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        await turn.spawn(outer())
        yield "one"

    [message] = await names(agent, caplog)
    assert "deeper (" in message


async def test_tasks_that_end_with_their_turn_are_not_named(caplog: pytest.LogCaptureFixture) -> None:
    """Task groups, spawned tasks, callbacks, those that end soon, and those that are to go on."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        turn.spawn(runs_on())
        KEPT.append(turn.spawn(runs_on(), outlive=True))
        asyncio.create_task(runs_on(0.2))  # noqa: RUF006 - as careless authors write it

        async def produce(push: Any) -> None:
            push("one")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(runs_on())

        async for word in from_callbacks(produce):
            yield word

    assert await names(agent, caplog) == []


async def test_a_task_that_is_over_is_not_kept() -> None:
    """The record costs no memory once the task is gone."""
    seen: list[weakref.ref[Any]] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        task = asyncio.create_task(runs_on(0))
        seen.append(weakref.ref(task))
        await task
        del task
        await asyncio.sleep(0)  # the loop holds what it just ran
        gc.collect()
        yield "gone" if seen[0]() is None else "kept"

    with exits_contained():
        line = Line(serve(agent))
        line.ask()
        await line.until("turn.ended")
    assert line.texts() == ["gone"]
