"""Stages, reading ahead, and checks."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from bargein_server.streams import Repair, Replace, prefetched, transformed, validated
from bargein_server.streams.flow import OnBad
from streaming import Source, no_accidents, read, run

pytestmark = pytest.mark.virtual_time


# transformed


async def test_the_whole_takes_as_long_as_its_slowest_stage() -> None:
    """Ten items, stages of 1, 2 and 1 s: 22 s and not 40; order is kept."""
    loop = asyncio.get_running_loop()

    async def one(item: int) -> int:
        await asyncio.sleep(1)
        return item + 1

    async def two(item: int) -> str:
        await asyncio.sleep(2)
        return str(item)

    async def three(item: str) -> str:
        await asyncio.sleep(1)
        return item + "."

    source = Source(*range(10), pause=None)
    got = [item async for item in transformed(source.stream, one, two, three)]
    assert got == [f"{n + 1}." for n in range(10)]
    assert loop.time() == pytest.approx(22)


async def test_a_stage_that_fails_ends_the_others_after_what_came_before() -> None:
    """The items before it arrive, the error once, and nothing of it stays."""

    def invert(item: int) -> float:
        return 1 / item

    source = Source(2, 1, 0, 5)
    got: list[str] = []
    with no_accidents():
        _, error = await run(lambda: read(transformed(source.stream, invert, str), got))
    assert isinstance(error, ZeroDivisionError)
    assert got == ["0.5", "1.0"]
    assert source.closed
    assert source.strange == []


@pytest.mark.parametrize("ahead", [1, 3])
async def test_at_most_so_many_items_are_read_ahead(ahead: int) -> None:
    """Exactly the bound while nobody asks."""
    source = Source(*range(100), pause=None)
    stream = prefetched(source.stream, ahead=ahead)
    assert await anext(stream) == 0
    await asyncio.sleep(1)
    assert len(source.given) == 1 + ahead
    await stream.aclose()


async def test_without_stages_it_reads_ahead() -> None:
    """No stage is a stage that does nothing."""
    assert [item async for item in transformed(Source(1, 2).stream)] == [1, 2]


async def test_helper_tasks_live_in_the_context_of_the_turn() -> None:
    """What a source opens upstream is entered in the streams of the turn, by a context variable."""
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("of the turn")

    def seen(item: int) -> str:
        return variable.get()

    assert [item async for item in transformed(Source(1).stream, seen, str)] == ["of the turn"]


async def test_the_bound_is_at_least_one() -> None:
    """No room at all would be a stream that never moves."""
    with pytest.raises(ValueError, match="at least 1"):
        await anext(prefetched(Source(1).stream, ahead=0))


# validated


def is_good(text: str) -> bool:
    return "!" not in text


@pytest.mark.parametrize(
    ("on_bad", "expected"),
    [
        ("drop", ["a", "b"]),
        ("stop", ["a"]),
        (Replace("?"), ["a", "?", "b", "?"]),
        (Repair(lambda text: text.removesuffix("!")), ["a", "x", "b"]),
        (Repair(lambda text: None), ["a", "b"]),
    ],
)
async def test_a_bad_chunk_is_dropped_replaced_repaired_or_ends_the_stream(
    on_bad: OnBad[str], expected: list[str]
) -> None:
    """The good ones pass in order; a repair that does not help is a drop."""
    source = Source("a", "x!", "b", "y!!")
    got: list[str] = []
    _, error = await run(lambda: read(validated(source.stream, is_good, on_bad=on_bad), got))
    assert error is None
    assert got == expected
    assert source.closed


async def test_a_check_that_raises_ends_the_stream_and_closes_the_source() -> None:
    """Its error is the stream's."""
    source = Source(1, 0, 2)
    got: list[int] = []
    _, error = await run(lambda: read(validated(source.stream, lambda item: 1 // item > 0), got))
    assert isinstance(error, ZeroDivisionError)
    assert got == [1]
    assert source.closed


async def test_bad_chunks_without_end_let_the_loop_run() -> None:
    """A source that never waits and gives only bad chunks does not keep an interrupt from being read."""
    source = Source(*["!"] * 2000, pause=None)
    with no_accidents():
        points, _ = await run(lambda: read(validated(source.stream, is_good), []), cut=3)
    assert points == 3
    assert len(source.given) < 2000
    assert source.closed
