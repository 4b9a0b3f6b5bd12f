"""The flow of a stream: rates, limits and reports."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bargein_protocol import Progress, Thought
from bargein_server.streams import LimitExceeded, limited, throttled_to_playback, with_progress
from bargein_server.streams import throttled as throttled
from bargein_server.streams.flow import size_of
from streaming import Source, read, run

pytestmark = pytest.mark.virtual_time


# throttled


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


# limited


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"chunks": 2}, ["ab", "cü"]),
        ({"chunks": 0}, []),
        ({"size": 5}, ["ab", "cü"]),
        ({"size": 4}, ["ab"]),
        ({"chunks": 9, "size": 99}, ["ab", "cü", "d"]),
        ({}, ["ab", "cü", "d"]),
    ],
)
async def test_what_would_go_beyond_a_bound_is_not_given_out(
    limits: dict[str, Any], expected: list[str]
) -> None:
    """Chunks are counted whole, text in UTF-8; the source is closed at the bound."""
    source = Source("ab", "cü", "d")
    got: list[str] = []
    _, error = await run(lambda: read(limited(source.stream, **limits), got))
    assert error is None
    assert got == expected
    assert source.closed == source.begun
    assert source.strange == []


async def test_at_its_number_of_chunks_the_source_is_asked_for_no_more() -> None:
    """A model that goes on and on costs nothing beyond the bound."""
    source = Source(*"abcdef")
    assert [item async for item in limited(source.stream, chunks=2)] == ["a", "b"]
    assert source.given == ["a", "b"]
    assert source.closed


@pytest.mark.parametrize("limits", [{"chunks": 2}, {"size": 2}])
async def test_a_bound_may_be_a_failure(limits: dict[str, Any]) -> None:
    """Only when there is more: exactly the bound is good."""
    got: list[str] = []
    _, error = await run(lambda: read(limited(Source(*"abc").stream, then="fail", **limits), got))
    assert isinstance(error, LimitExceeded)
    assert got == ["a", "b"]
    assert [item async for item in limited(Source(*"ab").stream, then="fail", **limits)] == ["a", "b"]


def test_sizes_are_those_on_the_wire() -> None:
    """UTF-8, bytes as they are, structs as JSON; anything else has no size."""
    sizes = [
        size_of(item) for item in ("ab", "ü", "\U0001f600", b"abc", memoryview(b"ab"), Thought(text="x"))
    ]
    assert sizes == [2, 2, 4, 3, 2, len('{"type":"thought","text":"x"}')]
    with pytest.raises(TypeError, match="got int"):
        size_of(1)


# progress


async def test_a_report_follows_the_item_that_moved_it() -> None:
    """Every two items, and once more at the end when the last report is not up to date."""
    stream = with_progress(Source(*"abcde").stream, total=5, every=2, unit="letters", label="spelling")

    def report(value: float) -> Progress:
        return Progress(value=value, total=5, unit="letters", label="spelling")

    assert [item async for item in stream] == ["a", "b", report(2), "c", "d", report(4), "e", report(5)]


async def test_progress_may_count_anything() -> None:
    """Characters, for instance; and a source without items has no progress."""
    stream = with_progress(Source("abc", "", "de").stream, size_of=len, every=3)
    assert [item async for item in stream] == ["abc", Progress(value=3), "", "de", Progress(value=5)]
    assert [item async for item in with_progress(Source[str]().stream)] == []


async def test_a_source_that_fails_does_not_look_finished() -> None:
    """There is no last report."""
    got: list[object] = []
    _, error = await run(lambda: read(with_progress(Source("a", fails=OSError()).stream, every=2), got))
    assert isinstance(error, OSError)
    assert got == ["a"]
