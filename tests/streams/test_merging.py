"""Several streams as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bargein_server.streams import merged, raced
from streaming import Source, no_accidents, read, run
from virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time


# merged


async def ticking(name: str, *gaps: float) -> AsyncIterator[str]:
    for number, gap in enumerate(gaps):
        await asyncio.sleep(gap)
        yield f"{name}{number}"


async def test_items_come_as_they_are_made() -> None:
    """By time across the sources; both run at once."""
    stream = merged(ticking("a", 1, 2, 2), ticking("b", 2, 2))
    assert [item async for item in stream] == ["a0", "b0", "a1", "b1", "a2"]
    assert asyncio.get_running_loop().time() == pytest.approx(5)


async def test_one_that_never_waits_does_not_silence_the_others() -> None:
    """They take turns."""
    loud = Source(*["loud"] * 1000, pause=None)
    stream = merged(loud.stream, Source(*["soft"] * 5, pause=None).stream)
    first = [await anext(stream) for _ in range(10)]
    assert first.count("soft") == 5
    await stream.aclose()


async def test_the_first_failure_ends_all_and_a_failing_cleanup_is_noted_on_it() -> None:
    """One error is raised; what the others raise in their cleanup stands in its notes."""
    failing = Source("a", fails=OSError("upstream"))
    other = Source(*"bcdefghijk", cleanup_fails=ValueError("in a cleanup"))
    with no_accidents():
        _, error = await run(lambda: read(merged(failing.stream, other.stream), []))
    assert isinstance(error, OSError)
    assert error.__notes__ == ["and in a cleanup: ValueError('in a cleanup')"]
    assert failing.closed
    assert other.closed


async def test_of_several_cleanups_that_fail_the_first_is_raised() -> None:
    """The other is a note."""
    sources = [Source("a", "b", cleanup_fails=ValueError(name)) for name in ("one", "two")]
    stream = merged(*(source.stream for source in sources))
    await anext(stream)
    with pytest.raises(ValueError, match="one") as caught:
        await stream.aclose()
    assert caught.value.__notes__ == ["and in a cleanup: ValueError('two')"]


async def test_a_source_that_was_begun_by_another_is_closed_before_its_reader_began() -> None:
    """A model's stream that is open already does not stay open when the first step is cut."""
    source = Source(*"abc")
    await anext(source.stream)
    stream = merged(source.stream)
    task = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert source.closed


async def test_a_second_cancel_reaches_a_cleanup_that_hangs() -> None:
    """The generator stays as long as its sources do, and hands every further cancel on to them."""
    cancels: list[str] = []

    async def stubborn() -> AsyncIterator[str]:
        try:
            yield "x"
            await asyncio.sleep(3600)
        finally:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancels.append("second")
                raise

    task = asyncio.ensure_future(read(merged(stubborn()), []))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.sleep(2)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
    assert cancels == ["second"]
    assert task.cancelled()
    assert asyncio.get_running_loop().time() == pytest.approx(3)


async def test_nothing_merged_is_nothing() -> None:
    """No source, no item."""
    assert [item async for item in merged(*list[AsyncIterator[str]]())] == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from([0.0, 0.01, 0.5]), max_size=6), max_size=4), st.integers(1, 3))
def test_nothing_is_lost_and_each_keeps_its_order(gaps: list[list[float]], ahead: int) -> None:
    """Whatever the times."""

    async def collect() -> list[str]:
        sources = [ticking(f"{number}/", *of_one) for number, of_one in enumerate(gaps)]
        return [item async for item in merged(*sources, ahead=ahead)]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        got = runner.run(collect())
    for number, of_one in enumerate(gaps):
        of_source = [item for item in got if item.startswith(f"{number}/")]
        assert of_source == [f"{number}/{place}" for place in range(len(of_one))]
    assert len(got) == sum(map(len, gaps))


# raced


def slow(seconds: float, *items: str, cleanup_s: float = 0.0, closed: list[float]) -> AsyncIterator[str]:
    async def stream() -> AsyncIterator[str]:
        try:
            for item in items:
                await asyncio.sleep(seconds)
                yield item
        finally:
            await asyncio.sleep(cleanup_s)
            closed.append(asyncio.get_running_loop().time())

    return stream()


async def test_the_winner_is_heard_at_once_and_the_others_are_closed_meanwhile() -> None:
    """The loser's cleanup of 5 s delays no item, is not cut short, and is awaited at the end."""
    loop = asyncio.get_running_loop()
    closed: list[float] = []
    loser = slow(3, "never", cleanup_s=5, closed=closed)
    times = []
    async for item in raced(loser, slow(1, "a", "b", closed=[])):
        times.append((item, loop.time()))
    assert times == [("a", 1.0), ("b", 2.0)]
    assert closed == [6.0]
    assert loop.time() == 6.0


async def test_one_that_fails_or_ends_before_anybody_spoke_is_out() -> None:
    """The next best wins."""
    failing, empty, good = Source[str](fails=OSError("down")), Source[str](), Source("a", "b", pause=pause)
    got: list[str] = []
    with no_accidents():
        _, error = await run(lambda: read(raced(failing.stream, empty.stream, good.stream), got))
    assert error is None
    assert got == ["a", "b"]


async def pause() -> None:
    await asyncio.sleep(1)


async def test_when_nobody_speaks_the_first_failure_is_raised() -> None:
    """And without a failure there is no item."""
    with no_accidents():
        sources = [Source[str](fails=OSError(name)).stream for name in ("one", "two")]
        _, error = await run(lambda: read(raced(*sources), []))
        assert isinstance(error, OSError)
        assert error.args == ("one",)
        assert [item async for item in raced(Source[str]().stream)] == []


async def test_what_a_loser_raises_in_its_cleanup_does_not_harm_the_winner() -> None:
    """It was told to go."""
    loser = Source("x", "y", pause=pause, cleanup_fails=ValueError("secret"))
    with no_accidents():
        assert [item async for item in raced(loser.stream, Source("a", "b").stream)] == ["a", "b"]
    assert loser.closed


async def test_a_loser_that_spoke_in_the_same_step_is_not_heard() -> None:
    """Two that never wait: one voice, whole."""
    one, two = Source(*"abc", pause=None), Source(*"xyz", pause=None)
    with no_accidents():
        assert [item async for item in raced(one.stream, two.stream, ahead=3)] == ["a", "b", "c"]
    assert two.closed
