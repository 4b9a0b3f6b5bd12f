"""Items in lists, by number or time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from .readers import End, Item, Readers

T = TypeVar("T")


async def buffered(
    source: AsyncIterable[T], *, size: int = 64, seconds: float | None = None
) -> AsyncGenerator[list[T], None]:
    """Yield lists of items: `size` of them, or fewer when the first has waited for `seconds`.

    Order is kept and no list is empty. While nobody asks, at most `size` items are read ahead. When the
    source ends or fails, what is left comes as the last list, before the error. Cancelling closes the
    source; what was read and not given out is dropped. The timer runs no `__anext__` into a time-out,
    so it loses no item.

    Args:
        source: The items. It is read by a task of its own, which this generator owns.
        size: The most items in a list, at least 1.
        seconds: The longest that an item waits while somebody asks; None: until the list is full.

    Raises:
        ValueError: `size` is less than 1, at the first step.
    """
    async with Readers([source], ahead=size) as readers:
        while readers.live:
            entry = await readers.next()
            batch: list[T] = []
            deadline: float | None = None
            while isinstance(entry, Item):
                batch.append(entry.value)
                if len(batch) == size:
                    break
                if deadline is None and seconds is not None:
                    deadline = entry.at + seconds
                entry = await readers.next(deadline)
            if batch:
                yield batch
            if isinstance(entry, End) and entry.error is not None:
                raise entry.error
