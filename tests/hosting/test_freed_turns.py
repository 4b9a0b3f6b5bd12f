"""Turns that were cut are freed at once, and leave no cycle for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from bargein_protocol import ToolCall
from bargein_server import Agent, Output, Turn
from bargein_server.agents.parallel import Parallel
from bargein_server.agents.tool_loop import ToolRunner
from bargein_server.agents.tools import Tool
from bargein_server.core.history import NamedCall
from bargein_server.streams import merged, prefetched
from live_server import ask, serving
from operators import OPERATORS, Operator, texts
from waiting import TooLate, until


class Local:
    """A variable of an agent, which its frame holds."""

    def stay(self) -> None:
        """Do nothing: a frame holds what it may still use."""


made: list[weakref.ref[Local]] = []


def local() -> Local:
    """Return a variable that the test watches."""
    found = Local()
    made.append(weakref.ref(found))
    return found


def held_locals() -> list[Local]:
    """Return the variables that were not freed."""
    return [each for ref in made if (each := ref()) is not None]


async def words(turn: Turn) -> AsyncIterator[str]:
    """Write without an end, long words for "flood"."""
    while True:
        yield "word" * (500 if turn.text == "flood" else 1) + " "
        await asyncio.sleep(0.001)


async def merging(turn: Turn) -> AsyncIterator[Output]:
    """Read two sources in tasks of their own."""
    async for output in merged(words(turn), prefetched(words(turn), ahead=2)):
        yield output


async def parallel(turn: Turn) -> AsyncIterator[Output]:
    """Run two agents at a time."""
    async for output in Parallel(turn, {"one": words, "two": words}).outputs():
        yield output


async def spawning(turn: Turn) -> AsyncIterator[Output]:
    """Keep a task that can reach itself."""
    tasks: list[asyncio.Task[None]] = []

    async def beside() -> None:
        watched = local()
        await asyncio.sleep(60)
        del watched
        tasks.clear()

    tasks.append(turn.spawn(beside()))
    async for output in words(turn):
        yield output


async def grouping(turn: Turn) -> AsyncIterator[Output]:
    """Write in a task group, whose frame holds its error."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.sleep(60))
        async for output in words(turn):
            yield output


AGENTS: dict[str, Agent] = {
    "task group": grouping,
    "words": words,
    "merged": merging,
    "parallel": parallel,
    "spawning": spawning,
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Switch the garbage collector off."""
    made.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def broken(turn: Turn) -> AsyncIterator[str]:
    """Fail after the first words."""
    watched = local()
    yield "Word. "
    await asyncio.sleep(0.001)
    watched.stay()
    raise ConnectionError("broken")


async def group_of_failures(turn: Turn) -> AsyncIterator[Output]:
    """Fail by a group of errors."""
    watched = local()
    yield "word"

    async def fail() -> None:
        raise ConnectionError("broken")

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
    watched.stay()


def using(function: Callable[[], Any]) -> Agent:
    """Return an agent whose tool fails."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        watched = local()
        call_id = turn.tools.claim("")
        yield ToolCall(call_id=call_id, name="fail")
        call = NamedCall(call_id, "fail", "{}")
        async for output in ToolRunner(turn, {"fail": Tool(function, name="fail")}, [call]).outputs():
            yield output
        watched.stay()

    return agent


async def failing() -> None:
    """Fail."""
    watched = local()
    await asyncio.sleep(0.001)
    watched.stay()
    raise ValueError


def failing_in_a_thread() -> None:
    """Fail."""
    watched = local()
    watched.stay()
    raise ValueError


def operated(operator: Operator, handled: bool) -> Agent:
    """Return an agent that reads broken streams through an operator."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        watched = local()
        yield "word"
        try:
            async for item in operator(broken(turn), broken(turn)):
                yield texts([item])
        except ConnectionError:
            if not handled:
                raise
        watched.stay()

    return agent


FAILING: dict[str, Agent] = {
    **{f"{name}, handled": operated(operator, True) for name, operator in OPERATORS.items()},
    **{name: operated(operator, False) for name, operator in OPERATORS.items()},
    "task group": group_of_failures,
    "tool": using(failing),
    "tool in a thread": using(failing_in_a_thread),
}


@pytest.fixture
def no_log() -> Iterator[None]:
    """Keep pytest from holding the errors of records."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", FAILING)
@pytest.mark.usefixtures("no_collector", "no_log")
async def test_a_turn_with_an_error_is_freed(name: str) -> None:
    """Whether the agent handles the error of its stream, or fails with it."""
    async with serving(FAILING[name]) as server, server.connect() as client:
        await ask(client)
        await client.until("turn.ended")
        with suppress(TooLate):
            await until(lambda: not held_locals())
        assert held_locals() == []


@pytest.mark.parametrize("held", [False, True], ids=["running", "held"])
@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.usefixtures("no_collector")
async def test_a_cut_turn_is_freed(name: str, held: bool) -> None:
    """Whether its agent runs, or is held at a `yield` because its client does not read."""
    inner = AGENTS[name]

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        watched = local()
        async for output in inner(turn):
            yield output
        del watched

    async with serving(agent, max_in_flight_bytes=8192) as server, server.connect() as client:
        await client.send({"type": "session.open"})
        await client.until("session.opened")
        await ask(client, "flood" if held else "go")
        if held:
            await until(lambda: [host for host in server.sessions if host.full])
        else:
            await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x"})
        await client.until("turn.ended")
        with suppress(TooLate):
            await until(lambda: not held_locals())
        assert held_locals() == []
