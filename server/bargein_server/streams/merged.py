"""Several streams as one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from .readers import End, Readers

T = TypeVar("T")


async def merged(*sources: AsyncIterable[T], ahead: int = 1) -> AsyncGenerator[T, None]:
    """Yield the items of all sources as they come; all are read at the same time.

    Items of one source keep their order. Each source is at most `ahead` items ahead of the consumer, so
    one that never waits cannot keep the others from speaking. It ends when all have ended. When one
    fails, its error is raised once, after the items that came before it, and the others are closed.
    Cancelling closes all sources, each in the task that read it, at the same time.

    Args:
        sources: What to read, each by a task of its own, which this generator owns.
        ahead: How many items of each may wait, at least 1.

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
