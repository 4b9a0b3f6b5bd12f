"""How a generator ends its tasks, and how those who wait are woken."""

from __future__ import annotations

import asyncio
import sys

import pytest

from bargein_server.streams.sources import Signal, end
from streaming import no_accidents

pytestmark = pytest.mark.virtual_time


async def fails_in_its_cleanup() -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(1)
        raise OSError("in a cleanup")


async def test_tasks_are_awaited_and_their_failures_count_as_seen() -> None:
    """Who wants them asks the tasks; nobody complains otherwise."""
    with no_accidents():
        task = asyncio.ensure_future(fails_in_its_cleanup())
        await asyncio.sleep(0)
        await end([task])
        assert task.done()
        del task


async def test_a_wait_that_is_over_or_cancelled_leaves_nothing() -> None:
    """A signal that nobody wakes does not grow."""
    signal = Signal()
    size = sys.getsizeof(signal._waiters)
    for _ in range(100):
        assert not await signal.wait(asyncio.get_running_loop().time() + 1)
        task = asyncio.ensure_future(signal.wait())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
    assert sys.getsizeof(signal._waiters) == size


async def test_a_wake_up_reaches_everybody_who_waits_and_is_not_kept() -> None:
    """So look before you wait."""
    signal = Signal()
    waiting = [asyncio.ensure_future(signal.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    signal.wake()
    assert await asyncio.gather(*waiting) == [True] * 3
    assert not await signal.wait(asyncio.get_running_loop().time() + 1)
