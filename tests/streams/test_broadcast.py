"""One stream for several consumers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bargein_server.streams import Broadcast, Consumer, StreamClosed, TooSlow
from streaming import Source, no_accidents

pytestmark = pytest.mark.virtual_time


async def all_of(consumer: Consumer[int]) -> list[int]:
    return [item async for item in consumer]


async def test_everybody_gets_everything_in_order() -> None:
    """Each in a task of its own, at its own pace."""
    source = Source(*range(20))
    with no_accidents():
        async with Broadcast(source.stream, 3, ahead=2) as consumers:
            assert await asyncio.gather(*map(all_of, consumers)) == [[*range(20)]] * 3
    assert source.closed
    assert source.strange == []


async def test_the_source_waits_for_the_slowest() -> None:
    """`wait`: it is never more than `ahead` items before the one that does not read."""
    source = Source(*range(20), pause=None)
    async with Broadcast(source.stream, 2, ahead=4) as (one, two):
        assert [await anext(one) for _ in range(4)] == [0, 1, 2, 3]
        await asyncio.sleep(1)
        assert len(source.given) == 4
        assert await anext(two) == 0
        assert await anext(one) == 4
    assert source.closed


async def test_a_slow_consumer_misses_the_oldest_and_knows_how_many() -> None:
    """`drop`: nobody waits for it, and what it has is the newest."""
    async with Broadcast(Source(*range(10), pause=None).stream, 2, ahead=3, slow="drop") as (one, two):
        assert await all_of(one) == [*range(10)]
        assert await all_of(two) == [7, 8, 9]
        assert (one.dropped, two.dropped) == (0, 7)


async def test_a_slow_consumer_is_let_go() -> None:
    """`close`: it gets what it has, then the error; the other one is not harmed."""
    async with Broadcast(Source(*range(10), pause=None).stream, 2, ahead=3, slow="close") as (one, two):
        assert await all_of(one) == [*range(10)]
        assert [await anext(two) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(TooSlow):
            await anext(two)
        assert await all_of(two) == []


async def test_one_that_leaves_counts_no_more_and_the_last_one_closes_the_source() -> None:
    """Also one that has never read anything."""
    source = Source(*range(20), pause=None)
    async with Broadcast(source.stream, 2, ahead=1) as (one, two):
        await two.aclose()
        assert [await anext(one) for _ in range(5)] == [0, 1, 2, 3, 4]
        assert await all_of(two) == []
        await one.aclose()
        assert source.closed
    assert source.strange == []


async def test_everybody_gets_the_failure_once_after_the_items() -> None:
    """And then the stream is over."""
    with no_accidents():
        async with Broadcast(Source(1, fails=OSError("upstream")).stream, 2) as consumers:
            for consumer in consumers:
                assert await anext(consumer) == 1
                with pytest.raises(OSError, match="upstream"):
                    await anext(consumer)
                assert await all_of(consumer) == []


async def test_a_consumer_that_is_cancelled_in_a_wait_takes_nothing() -> None:
    """The item that it waited for is there at its next step, also when both come in one step."""
    source = Source(*range(3), pause=lambda: asyncio.sleep(1))
    async with Broadcast(source.stream, 1) as (one,):
        got: list[int] = []
        for _ in range(5):
            task = asyncio.ensure_future(anext(one))
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.wait({task})
            got += [] if task.cancelled() else [task.result()]
        assert got + await all_of(one) == [0, 1, 2]


async def test_who_still_waits_when_the_block_is_left_is_told() -> None:
    """It is no end of the answer."""
    source = Source(*range(3), pause=lambda: asyncio.sleep(1))
    with no_accidents():
        async with Broadcast(source.stream, 1) as (one,):
            task = asyncio.ensure_future(anext(one))
            await asyncio.sleep(0)
        with pytest.raises(StreamClosed):
            await task
    assert source.closed


async def test_leaving_the_block_waits_for_a_source_that_a_consumer_is_closing() -> None:
    """The cleanup is not cut short by a second cancel."""
    closed: list[float] = []

    async def stream() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
                await asyncio.sleep(1)
        finally:
            await asyncio.sleep(5)
            closed.append(asyncio.get_running_loop().time())

    async with Broadcast(stream(), 1) as (one,):
        await anext(one)
        leaving = asyncio.ensure_future(one.aclose())
        await asyncio.sleep(0)
    assert closed == [5.0]
    await leaving


async def test_a_block_that_is_left_at_once_closes_a_source_that_is_open_already() -> None:
    """The task had no time for its first step."""
    source = Source(*range(3))
    await anext(source.stream)
    async with Broadcast(source.stream, 1):
        pass
    assert source.closed
