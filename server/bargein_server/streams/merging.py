"""Several streams as one: `merged` and `raced`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from .sources import End, Item, Readers

T = TypeVar("T")


async def merged(*sources: AsyncIterable[T], ahead: int = 1) -> AsyncGenerator[T, None]:
    """Yield the items of all sources as they arrive.

    All sources are read at the same time. Items of one source keep their order. Each source is at most
    `ahead` items ahead of the consumer, so a source that never waits cannot starve the others. The stream
    ends when all sources have ended. When a source fails, its error is raised once, after the items that
    came before it, and the others are closed. Cancelling closes all sources at the same time, each in the
    task that read it.

    Args:
        sources: The sources, each read by a task of its own, which this generator owns.
        ahead: Number of items of each source that may wait, at least 1.

    Raises:
        ValueError: `ahead` is less than 1, at the first step.
    """
    async with Readers(sources, ahead) as readers:
        while readers.live:
            entry = await readers.next()
            if isinstance(entry, End):
                if entry.error is not None:
                    raise entry.error
            elif entry is not None:
                yield entry.value


async def raced(*sources: AsyncIterable[T], ahead: int = 1) -> AsyncGenerator[T, None]:
    """Yield the items of the source whose first item comes first.

    The others are cancelled at that moment. The winner's first item does not wait for the cleanup of the
    others. Their cleanup runs meanwhile, and this generator's end waits for it; its errors are only
    logged. A source that ends without an item, or fails before there is a winner, is out. Cancelling
    closes all sources, each in the task that read it.

    Args:
        sources: The sources, each read by a task of its own, which this generator owns.
        ahead: Number of items of each source that may wait, at least 1.

    Raises:
        Exception: The winner's error, after its items; without a winner, the error of the first source
            that failed.
        ValueError: `ahead` is less than 1, at the first step.
    """
    winner: int | None = None
    failure: BaseException | None = None
    async with Readers(sources, ahead) as readers:
        while readers.live:
            entry = await readers.next()
            if isinstance(entry, Item):
                if winner is None:
                    winner, failure = entry.source, None
                    for other in range(len(sources)):
                        if other != winner:
                            readers.stop(other)
                yield entry.value
            elif entry is not None:
                failure = failure or entry.error
                if entry.source == winner:
                    break
        if failure is not None:
            raise failure
