"""At most so many chunks, at most so many bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable
from typing import Literal, TypeVar

import msgspec

from .errors import LimitExceeded
from .reading import Reading

T = TypeVar("T")


async def limited(
    source: AsyncIterable[T],
    *,
    chunks: int | None = None,
    size: int | None = None,
    then: Literal["stop", "fail"] = "stop",
) -> AsyncGenerator[T, None]:
    """Yield the items of `source` up to a bound.

    The item that would go beyond it is not given out; the source is closed, so that a model which goes
    on and on costs no more. With `stop`, a source that has given its number of chunks is closed at the
    next step, without asking it for one more. Nothing is read ahead; cancelling closes the source.

    Args:
        source: The items: text, bytes, or the structs of `bargein_protocol`.
        chunks: The most items; None: any number.
        size: The most bytes in all: UTF-8 for text, JSON for structs; None: any number.
        then: What happens at the bound: the stream ends, or it fails.

    Raises:
        LimitExceeded: The source had more, and `then` is `fail`.
        TypeError: An item has no size in bytes, and `size` is given.
    """
    given = taken = 0
    async with Reading(source) as items:
        while then == "fail" or chunks is None or given < chunks:
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            given += 1
            if size is not None:
                taken += size_of(item)
            if (chunks is not None and given > chunks) or (size is not None and taken > size):
                if then == "fail":
                    raise LimitExceeded(f"expected at most {chunks} chunks and {size} bytes")
                return
            yield item


def size_of(item: object) -> int:
    """Return the size of an item in bytes: UTF-8 for text, JSON for structs.

    Raises:
        TypeError: It is neither of them, nor bytes.
    """
    if isinstance(item, str):
        return len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
    if isinstance(item, (bytes, bytearray, memoryview)):
        return memoryview(item).nbytes
    if isinstance(item, msgspec.Struct):
        return len(msgspec.json.encode(item))
    raise TypeError(f"expected str, bytes or a struct, got {type(item).__name__}")
