"""Every operator in an agent, on the real host: interrupted while it waits, held, and blocked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from bargein_protocol import TurnHold, TurnResume
from bargein_server import Agent, Output, Turn
from bargein_server.hosting.upstream import TURN_STREAMS, TurnStreams
from bargein_server.streams import Cache, merged, prefetched, raced, transformed
from memory_client import Line, serve
from operators import OPERATORS, Operator
from streaming import Source, no_accidents
from waiting import in_virtual_time

pytestmark = pytest.mark.virtual_time


async def rest() -> None:
    await asyncio.sleep(0.1)


def agent_over(operator: Operator, *sources: Source[str]) -> Agent:
    """Return an agent that says what an operator makes of its sources."""
    one, two = sources

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        async with aclosing(operator(one.stream, two.stream)) as items:
            async for item in items:
                yield "".join(item) if isinstance(item, list) else item

    return agent


def sources(count: int) -> tuple[Source[str], Source[str]]:
    """Return two sources of so many sentences, ten a second."""
    one, two = (Source(*(f"{name}{n}. " for n in range(count)), pause=rest) for name in "AB")
    return one, two


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize("moment", ["while it waits", "while held", "while blocked"])
async def test_an_interrupt_closes_every_source_and_leaves_no_task(operator: Operator, moment: str) -> None:
    """In the task that read it, and nothing is heard after the end."""
    before = asyncio.all_tasks()
    one, two = sources(100)
    with no_accidents():
        line = Line(serve(agent_over(operator, one, two), max_queued_output_bytes=256))
        turn = line.ask()
        await in_virtual_time(line.texts)
        if moment == "while held":
            line.send(TurnHold(turn_id=turn))
        elif moment == "while blocked":
            line.block()
        await asyncio.sleep(1.05)
        line.interrupt(turn)
        said = len(line.texts())
        await in_virtual_time(lambda: asyncio.all_tasks() == before, "the end of all tasks")
        line.block(False)
        assert len(line.texts()) == said
    for source in (one, two):
        assert source.closed == source.begun
        assert source.strange == []
        assert len(source.given) < 50


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
async def test_a_hold_and_a_slow_client_lose_nothing(operator: Operator) -> None:
    """The answer is the same as without them."""
    heard: list[list[str]] = []
    for disturbed in (False, True):
        one, two = sources(12)
        line = Line(serve(agent_over(operator, one, two), hold_s=60, max_queued_output_bytes=256))
        turn = line.ask()
        if disturbed:
            await in_virtual_time(line.texts)
            line.send(TurnHold(turn_id=turn))
            await asyncio.sleep(3)
            line.send(TurnResume(turn_id=turn))
            line.block()
            await asyncio.sleep(3)
            line.block(False)
        await in_virtual_time(line.ends)
        assert line.ends()[0].status == "completed"
        heard.append(sorted("".join(line.texts()).split()))
    assert heard[0] == heard[1]


async def test_what_helper_tasks_open_upstream_belongs_to_the_turn() -> None:
    """So the fence closes it; the upstream of a cache may outlive a turn and belongs to none."""
    seen: dict[str, object] = {}

    async def looks(name: str) -> AsyncIterator[str]:
        seen[name] = TURN_STREAMS.get()
        yield "x"

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        seen["agent"] = TURN_STREAMS.get()
        async with aclosing(merged(transformed(looks("source"), str), raced(looks("other")))) as items:
            async for item in items:
                yield item
        async with aclosing(Cache[str]().stream("key", lambda: looks("cache"))) as items:
            async for item in items:
                yield item

    line = Line(serve(agent))
    line.ask()
    await in_virtual_time(line.ends)
    assert isinstance(seen["agent"], TurnStreams)
    assert seen["agent"] is seen["source"] is seen["other"]
    assert seen["cache"] is None


async def test_a_careless_agent_leaves_nothing_either() -> None:
    """Without `aclosing` Python closes the operator a few steps later, and its sources in their task."""
    before = asyncio.all_tasks()
    source = Source(*"abcdefgh", pause=rest)

    async def careless(turn: Turn) -> AsyncIterator[Output]:
        async for item in prefetched(source.stream):
            yield item

    line = Line(serve(careless, hold_s=60))
    turn = line.ask()
    await in_virtual_time(line.texts)
    line.send(TurnHold(turn_id=turn))
    await asyncio.sleep(0.5)
    line.interrupt(turn)
    await in_virtual_time(lambda: asyncio.all_tasks() == before, "the end of all tasks")
    assert source.closed
    assert source.strange == []
