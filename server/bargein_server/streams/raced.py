"""The first to speak wins."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from .readers import Item, Readers

T = TypeVar("T")


async def raced(*sources: AsyncIterable[T], ahead: int = 1) -> AsyncGenerator[T, None]:
    """Yield the items of the source that has the first one; the others are cancelled in that moment.

    The winner's first item does not wait for the cleanup of the others. Their cleanup runs meanwhile,
    and this generator's end waits for it; what it raises is logged and goes no further. A source
    that ends without an item, or fails before anybody spoke, is out. Cancelling closes all sources,
    each in the task that read it.

    Args:
        sources: What to read, each by a task of its own, which this generator owns.
        ahead: How many items of each may wait, at least 1.

    Raises:
        Exception: What the winner raises, after its items; or, when nobody spoke, what the first that
            failed has raised.
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
