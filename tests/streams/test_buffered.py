"""Items in lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein_server.streams import buffered
from streaming import Source, no_accidents
from virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


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
