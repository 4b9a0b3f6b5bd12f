"""Telling how far a stream is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import TypeVar

from bargein_protocol import Progress

from .reading import Reading

T = TypeVar("T")


async def with_progress(
    source: AsyncIterable[T],
    *,
    total: float | None = None,
    every: float = 1.0,
    unit: str | None = None,
    label: str | None = None,
    size_of: Callable[[T], float] = lambda _: 1.0,
) -> AsyncGenerator[T | Progress, None]:
    """Yield the items of `source`, and between them how far it is.

    A `Progress` follows the item with which its value has grown by `every` since the last one, and one
    comes at the end when the last is not up to date. A source that fails gets no last one. Nothing is
    read ahead; cancelling closes the source.

    Args:
        source: The items.
        total: What the value will be at the end, where it is known.
        every: How much the value grows between two reports.
        unit: What is counted, for people.
        label: What is going on, for people.
        size_of: What an item counts. By default each item counts 1.
    """
    value = told = 0.0
    async with Reading(source) as items:
        async for item in items:
            yield item
            value += size_of(item)
            if value - told >= every:
                told = value
                yield Progress(value=value, total=total, unit=unit, label=label)
    if told != value:
        yield Progress(value=value, total=total, unit=unit, label=label)
