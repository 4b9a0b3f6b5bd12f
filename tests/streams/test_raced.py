"""The first to speak wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bargein_server.streams import raced
from streaming import Source, no_accidents, read, run

pytestmark = pytest.mark.virtual_time


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
