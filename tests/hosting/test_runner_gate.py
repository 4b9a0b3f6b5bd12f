"""The runner at the gate: an agent that is not pulled, and one that is done while its output waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bargein_protocol import TurnHold, TurnResume
from bargein_server import Output, Turn
from memory_client import Line, serve
from waiting import until


@pytest.fixture
async def complaints() -> list[str]:
    """What the loop complains about."""
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(str(context)))
    return said


async def one_word(turn: Turn) -> AsyncIterator[Output]:
    yield "word"


@pytest.mark.parametrize("interrupted", [False, True])
async def test_a_runner_whose_agent_returned_while_output_waits_is_let_go(
    interrupted: bool, complaints: list[str]
) -> None:
    """The agent is done, the line is full: the task ends in silence, and so does the turn, once."""
    sessions = serve(one_word)
    line = Line(sessions)
    line.block()
    turn = line.ask()
    [live] = sessions
    await until(lambda: not live.tasks(), "the end of the task")
    if interrupted:
        line.interrupt(turn)
    line.block(False)
    assert [end.status for end in line.ends()] == ["interrupted" if interrupted else "completed"]
    assert complaints == []


@pytest.mark.virtual_time
async def test_an_agent_that_was_not_pulled_has_its_whole_time_for_the_next_output() -> None:
    """The line was full for most of the no-output time; the time counts from when it drained."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "x" * 2000
        await asyncio.sleep(20)
        yield "slow, but in time"

    line = Line(serve(agent, no_output_s=30, heartbeat_s=1000, max_queued_output_bytes=1024))
    line.ask()
    line.block()
    await asyncio.sleep(29)
    line.block(False)
    await asyncio.sleep(25)
    assert [end.status for end in line.ends()] == ["completed"]


async def test_the_generator_of_a_held_turn_stands_still() -> None:
    """It is not pulled, so an agent that never waits makes nothing that must be kept (contract 10)."""
    made = 0

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        nonlocal made
        while True:
            made += 1
            yield f"{made} "

    line = Line(serve(agent, hold_s=1000, no_output_s=1000))
    turn = line.ask()
    await line.until("text.delta")
    line.send(TurnHold(turn_id=turn))
    await asyncio.sleep(0)
    held_at = made
    for _ in range(10):
        await asyncio.sleep(0)
    assert made == held_at
    said = line.texts()
    line.send(TurnResume(turn_id=turn))
    await line.until("text.delta", len(said) + 1)
    line.interrupt(turn)
    assert "".join(line.texts()).split() == [str(n) for n in range(1, len(line.texts()) + 1)]
