"""Telling how far a stream is."""

from __future__ import annotations

from bargein_protocol import Progress
from bargein_server.streams import with_progress
from streaming import Source, read, run


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
