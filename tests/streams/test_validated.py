"""Bad chunks."""

from __future__ import annotations

import pytest

from bargein_server.streams import Repair, Replace, validated
from bargein_server.streams.validated import OnBad
from streaming import Source, no_accidents, read, run


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
