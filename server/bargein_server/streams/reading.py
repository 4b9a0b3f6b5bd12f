"""How an operator reads: it opens its source, and closes it in the same task, whatever happens."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Reading(Generic[T]):
    """Iterate over a source and close it: `async with Reading(source) as items: …`.

    `contextlib.aclosing` closes async generators. This closes whatever has `aclose()` or `close()`, as
    the streams of model SDKs do, and both the source and the iterator that it gave out. Closing runs
    in the task that leaves the block, and its errors propagate.
    """

    __slots__ = ("_items", "_source")

    def __init__(self, source: AsyncIterable[T]) -> None:
        self._source = source

    async def __aenter__(self) -> AsyncIterator[T]:
        self._items = aiter(self._source)
        return self._items

    async def __aexit__(self, *_: object) -> None:
        try:
            await close(self._items)
        finally:
            if self._items is not self._source:
                await close(self._source)


async def close(source: object) -> None:
    """Close what can be closed; does nothing for a source that has neither `aclose` nor `close`."""
    closing = getattr(source, "aclose", None) or getattr(source, "close", None)
    if closing is not None:
        closed = closing()
        if inspect.isawaitable(closed):
            await closed
