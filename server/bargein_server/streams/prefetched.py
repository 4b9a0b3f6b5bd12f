"""Reading ahead of who asks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import TypeVar

from .merged import merged

T = TypeVar("T")


def prefetched(source: AsyncIterable[T], *, ahead: int = 8) -> AsyncGenerator[T, None]:
    """Yield the items of `source`, reading at most `ahead` of them before they are asked for.

    Order is kept; an error comes after the items before it. While nobody asks (a hold, a slow client)
    reading stops at the bound. Cancelling closes the source and drops what was read ahead.

    Args:
        source: The items. It is read by a task of its own, which this generator owns.
        ahead: How many items may wait, at least 1.

    Raises:
        ValueError: `ahead` is less than 1, at the first step.
    """
    return merged(source, ahead=ahead)
