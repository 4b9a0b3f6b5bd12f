"""At most so many chunks, at most so many bytes."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_protocol import Thought
from bargein_server.streams import LimitExceeded, limited
from bargein_server.streams.limited import size_of
from streaming import Source, read, run


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
