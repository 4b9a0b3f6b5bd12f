"""The pacer: how long a turn may run before the loop must."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from itertools import count
from time import perf_counter
from typing import cast

import pytest

from bargein_server import Output, Turn
from bargein_server.hosting.time_slicer import ROUND_S, SLICE_S, TimeSlicer
from memory_client import Line, serve


async def test_the_clock_changes_once_the_loop_has_run() -> None:
    """Whoever looks at it again sees that others had their turn meanwhile."""
    time_slicer = TimeSlicer(asyncio.get_running_loop())
    seen = time_slicer.clock()
    assert time_slicer.clock() == seen
    await asyncio.sleep(0.002)
    assert time_slicer.clock() != seen


async def test_many_turns_share_one_look() -> None:
    """At most one callback for each iteration of the loop, whatever the number of turns."""
    time_slicer = TimeSlicer(cast(asyncio.AbstractEventLoop, Ticking()))
    for _ in range(100):
        time_slicer.clock()
    for _ in range(3):
        await asyncio.sleep(0)
    assert time_slicer.clock() == 1


async def test_nothing_is_watched_when_nobody_asks() -> None:
    """An idle server's loop does not spin, also after it was busy."""
    loop = Ticking()
    time_slicer = TimeSlicer(cast(asyncio.AbstractEventLoop, loop))
    await time_slicer.yield_to_loop()
    for _ in range(10):
        await asyncio.sleep(0)
    assert loop.calls == 2


class Ticking:
    """The running loop, with a clock that goes on during an iteration as that of asyncio does."""

    def __init__(self) -> None:
        self._now = count()
        self.calls = 0

    def time(self) -> float:
        return next(self._now)

    def call_soon(self, act: Callable[[], object]) -> None:
        self.calls += 1
        asyncio.get_running_loop().call_soon(act)


async def test_breathing_lets_the_loop_run() -> None:
    """What was ready before runs before the breath is over."""
    ran: list[str] = []
    asyncio.get_running_loop().call_soon(ran.append, "other")
    await TimeSlicer(asyncio.get_running_loop()).yield_to_loop()
    assert ran == ["other"]


@pytest.mark.parametrize(
    ("busy", "slice_s"),
    [(0, SLICE_S), (1, SLICE_S), (25, SLICE_S), (50, ROUND_S / 50), (1000, ROUND_S / 1000)],
)
async def test_the_more_turns_are_busy_the_shorter_is_the_slice_of_each(busy: int, slice_s: float) -> None:
    """All of them together delay a frame by about five milliseconds; a quiet round gives the time back."""
    time_slicer = TimeSlicer(asyncio.get_running_loop())
    breaths = [asyncio.ensure_future(time_slicer.yield_to_loop()) for _ in range(busy)]
    await asyncio.sleep(0)  # each has begun to breathe
    await asyncio.sleep(0)
    assert time_slicer.slice_s == pytest.approx(slice_s)
    for breath in breaths:
        await breath
    await asyncio.sleep(0)
    assert time_slicer.slice_s == SLICE_S


async def test_an_agent_that_never_suspends_lets_the_loop_run() -> None:
    """Others have their turn while it speaks, many times (contract 12)."""
    rounds = 0
    speaking = True

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        nonlocal speaking
        end = perf_counter() + 500 * SLICE_S
        while perf_counter() < end:
            yield "x"
        speaking = False

    line = Line(serve(agent))
    line.ask()
    while speaking:
        await asyncio.sleep(0)
        rounds += 1
    assert rounds > 50
