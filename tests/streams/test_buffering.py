"""Items that wait: in lists, and for several consumers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein_server.streams import Broadcast, Consumer, StreamClosed, TooSlow, buffered
from streaming import Source, no_accidents
from virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


# buffered


async def timed(*gaps: float) -> AsyncIterator[int]:
    """Yield 0, 1, …, each after a gap in seconds."""
    for number, gap in enumerate(gaps):
        await asyncio.sleep(gap)
        yield number


async def test_a_list_is_full_or_its_first_item_has_waited_long_enough() -> None:
    """Size three, a tenth of a second: by size, by time, and what is left at the end."""
    loop = asyncio.get_running_loop()
    got = []
    async for batch in buffered(timed(0, 0, 0, 0, 0.06, 0.06, 5), size=3, seconds=0.1):
        got.append((batch, round(loop.time(), 3)))
    assert got == [([0, 1, 2], 0.0), ([3, 4], 0.1), ([5], 0.22), ([6], 5.12)]


async def test_without_a_time_only_the_size_counts() -> None:
    """It waits for as long as it takes."""
    assert [batch async for batch in buffered(timed(0, 9, 9, 9, 9), size=2)] == [[0, 1], [2, 3], [4]]


async def test_what_came_while_nobody_asked_is_given_at_once() -> None:
    """After a hold the list is there, as large as it may be, and its time has passed."""
    loop = asyncio.get_running_loop()
    stream = buffered(timed(0, 0, 1, 0, 9), size=3, seconds=0.1)
    assert await anext(stream) == [0, 1]
    await asyncio.sleep(5)
    now = loop.time()
    assert await anext(stream) == [2, 3]
    assert loop.time() == pytest.approx(now)
    await stream.aclose()


async def test_what_came_before_a_failure_is_given_out_before_it() -> None:
    """A list that is not full, then the error."""
    stream = buffered(Source(1, 2, 3, fails=OSError("upstream")).stream, size=2, seconds=1)
    with no_accidents():
        assert await anext(stream) == [1, 2]
        assert await anext(stream) == [3]
        with pytest.raises(OSError, match="upstream"):
            await anext(stream)


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0.0, 0.01, 0.04, 0.5]), max_size=12),
    size=st.integers(1, 5),
    seconds=st.none() | st.sampled_from([0.0, 0.02, 0.1]),
)
def test_nothing_is_lost_and_order_is_kept_whatever_the_times(
    gaps: list[float], size: int, seconds: float | None
) -> None:
    """Joined, the lists are the items; none is empty or too long."""

    async def collect() -> list[list[int]]:
        return [batch async for batch in buffered(timed(*gaps), size=size, seconds=seconds)]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        batches = runner.run(collect())
    assert [item for batch in batches for item in batch] == [*range(len(gaps))]
    assert all(1 <= len(batch) <= size for batch in batches)
    if seconds is None:
        assert all(len(batch) == size for batch in batches[:-1])


async def test_the_size_is_at_least_one() -> None:
    """A list that holds nothing would never be full."""
    with pytest.raises(ValueError, match="at least 1"):
        await anext(buffered(timed(), size=0))


# broadcast


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
