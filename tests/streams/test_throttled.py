"""Not faster than a rate, or than it is played."""

from __future__ import annotations

import asyncio

import pytest

from bargein_server.streams import throttled as throttled
from bargein_server.streams import throttled_to_playback
from streaming import Source

pytestmark = pytest.mark.virtual_time


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


async def test_items_pass_at_a_rate() -> None:
    """Four a second; the first at once."""
    assert [now() async for _ in throttled(Source(*"abcd", pause=None).stream, 4)] == [0, 0.25, 0.5, 0.75]


async def test_a_rate_may_count_characters() -> None:
    """Ten characters a second: an item waits for those before it."""
    stream = throttled(Source("12345", "1", "123", "x", pause=None).stream, 10, size_of=len)
    assert [now() async for _ in stream] == [0, 0.5, 0.6, 0.9]


async def test_a_pause_is_not_made_up_for() -> None:
    """After a hold of five seconds there is no burst."""
    stream = throttled(Source(*"abcd", pause=None).stream, 1)
    await anext(stream)
    await asyncio.sleep(5)
    times = [now() async for _ in stream]
    assert times == [5, 6, 7]


async def test_no_item_is_in_its_hands_while_it_waits() -> None:
    """It waits before it reads, so that a cancel loses nothing."""
    source = Source(*"abc", pause=None)
    stream = throttled(source.stream, 1)
    await anext(stream)
    task = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.5)
    assert source.given == ["a"]
    task.cancel()
    await asyncio.wait({task})
    assert source.closed


async def test_the_rate_is_positive() -> None:
    """Nothing a second would be never."""
    with pytest.raises(ValueError, match="above 0"):
        await anext(throttled(Source("a").stream, 0))


async def test_audio_is_made_a_little_ahead_of_the_ear() -> None:
    """Chunks of half a second, one second ahead; the player stands still while it has none."""
    source = Source(*range(10), pause=None)
    stream = throttled_to_playback(source.stream, lambda _: 0.5, ahead_s=1)
    times = []
    async for chunk in stream:
        times.append(now())
        if chunk == 4:
            await asyncio.sleep(10)
    assert times == [0, 0, 0, 0.5, 1, 11, 11, 11, 11.5, 12]


async def test_audio_follows_what_the_listener_reports() -> None:
    """While the report stands still nothing is read; when it goes on, so does the stream."""
    played = 0.0
    source = Source(*range(6), pause=None)
    stream = throttled_to_playback(source.stream, lambda _: 1, ahead_s=2, played_s=lambda: played)
    got: list[int] = []

    async def listen() -> None:
        async for chunk in stream:
            got.append(chunk)

    task = asyncio.ensure_future(listen())
    await asyncio.sleep(100)
    assert (got, source.given) == ([0, 1, 2], [0, 1, 2])
    played = 1.5
    await asyncio.sleep(2)
    assert got == [0, 1, 2, 3]
    played = 6
    await task
    assert got == [*range(6)]
