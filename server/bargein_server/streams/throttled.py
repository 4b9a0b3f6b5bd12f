"""Not faster than a rate, or than it is played."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import TypeVar

from .reading import Reading

T = TypeVar("T")

# What the rounding of times may leave over, in seconds.
_NOTHING_S = 1e-6
# A playback clock that stands still is looked at this often, in seconds.
_LOOK_S = 0.02


async def throttled(
    source: AsyncIterable[T], per_second: float, *, size_of: Callable[[T], float] = lambda _: 1.0
) -> AsyncGenerator[T, None]:
    """Yield the items of `source` at most at a rate.

    It waits before it reads, never with an item in its hands, so cancelling loses none; it closes the
    source. Time in which nobody asked or the source had nothing is not made up for by a burst.

    Args:
        source: The items.
        per_second: How much may pass in a second, in what `size_of` counts.
        size_of: What an item counts: `len` for characters. By default each item counts 1.

    Raises:
        ValueError: `per_second` is not positive, at the first step.
    """
    if not per_second > 0:
        raise ValueError(f"expected a rate above 0, got {per_second}")
    clock = asyncio.get_running_loop().time
    due = clock()
    async with Reading(source) as items:
        while True:
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
            due = max(due, clock()) + size_of(item) / per_second
            yield item


async def throttled_to_playback(
    source: AsyncIterable[T],
    seconds_of: Callable[[T], float],
    *,
    ahead_s: float = 1.0,
    played_s: Callable[[], float] | None = None,
) -> AsyncGenerator[T, None]:
    """Yield audio so that at most `ahead_s` seconds of it wait to be played when the next one is read.

    A voice is made faster than it is played. What is made ahead of the ear is paid for and thrown away
    by an interrupt, so the source is not read before there is room. It waits before it reads, never
    with a chunk in its hands, so cancelling loses none; it closes the source.

    Args:
        source: The chunks.
        seconds_of: How long a chunk plays, in seconds.
        ahead_s: How much may wait to be played, in seconds.
        played_s: How much has been played, in seconds, as reported by the listener. None: a player is
            assumed that begins with the first chunk and stands still while it has none.
    """
    clock = asyncio.get_running_loop().time
    given, until = 0.0, clock()
    async with Reading(source) as chunks:
        while True:
            while (
                wait := (until - clock() if played_s is None else given - played_s()) - ahead_s
            ) > _NOTHING_S:
                await asyncio.sleep(wait if played_s is None else max(wait, _LOOK_S))
            try:
                chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            lasts = seconds_of(chunk)
            given += lasts
            until = max(until, clock()) + lasts
            yield chunk
