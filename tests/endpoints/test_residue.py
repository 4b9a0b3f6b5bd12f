"""Contract 13: after any number of interrupts a session is as it was when it was idle."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from bargein_server import Output, Turn
from live_server import RawClient, serving
from waiting import until

BYTES_AN_INTERRUPT = 20


class Residue(NamedTuple):
    """What is left of many interrupts."""

    tasks: int
    descriptors: int
    bytes_each: float


async def patient(turn: Turn) -> AsyncIterator[Output]:
    """Waits for its interrupt and cleans up."""
    try:
        yield "word "
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)


_leaked: list[object] = []


async def leaking(turn: Turn) -> AsyncIterator[Output]:
    """Leaves something behind with every turn."""
    _leaked.append(bytearray(100))
    async for output in patient(turn):
        yield output


async def barge_in(client: RawClient, number: int) -> None:
    """One turn, cut after its first word."""
    await client.send({"type": "input.text", "id": f"i{number}", "text": "hello"})
    await client.until("text.delta")
    await client.send({"type": "interrupt", "id": f"x{number}", "input_id": f"i{number}"})
    await client.until("turn.ended")
    client.frames.clear()


def level() -> tuple[int, int, int]:
    """Return the tasks, the descriptors and the bytes that are held now."""
    gc.collect()
    return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), tracemalloc.get_traced_memory()[0]


async def residue(agent: object, warm_up: int, interrupts: int) -> Residue:
    """Interrupt many turns of one session; return what is left of those after the warm-up."""
    tracemalloc.start()  # before the warm-up: what was made untraced and is replaced would look like growth
    try:
        unhurried = serving(agent, max_messages_per_s=10**6)  # type: ignore[arg-type]
        async with unhurried as server, server.connect() as client:
            for number in range(warm_up):
                await barge_in(client, number)
            [live] = server.sessions
            await until(lambda: not live.tasks())
            before = level()
            for number in range(warm_up, warm_up + interrupts):
                await barge_in(client, number)
            await until(lambda: not live.tasks())
            after = level()
    finally:
        tracemalloc.stop()
    return Residue(after[0] - before[0], after[1] - before[1], (after[2] - before[2]) / interrupts)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_nine_thousand_interrupts_leave_nothing() -> None:
    """Tasks and descriptors are equal, and traced memory within 20 bytes an interrupt."""
    left = await residue(patient, 1000, 9000)
    assert (left.tasks, left.descriptors) == (0, 0)
    assert left.bytes_each < BYTES_AN_INTERRUPT


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_check_sees_a_leak() -> None:
    """An agent that keeps a hundred bytes a turn fails it."""
    try:
        left = await residue(leaking, 1000, 3000)
        assert left.bytes_each > BYTES_AN_INTERRUPT
    finally:
        _leaked.clear()
