"""Turns that were cut are freed at once, and leave no cycle for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest

from bargein_server import Agent, Output, Turn
from bargein_server.agents.parallel import Parallel
from bargein_server.streams import merged, prefetched
from live_server import ask, serving
from waiting import TooLate, until


class Local:
    """A variable of an agent, which its frame holds."""


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


AGENTS: dict[str, Agent] = {
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
