"""Every operator over two sources of text, for rules common to all.

The sources hold "A1. ", "A2. ", … and "B1. ", …; operators over one source leave the second alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from contextlib import aclosing
from typing import Any

from bargein_server.streams import (
    Broadcast,
    Cache,
    Push,
    buffered,
    clauses,
    from_callbacks,
    limited,
    merged,
    prefetched,
    raced,
    sentences,
    throttled,
    throttled_to_playback,
    transformed,
    validated,
    with_progress,
)
from bargein_server.streams.sources import Reading
from streaming import moment

Operator = Callable[[AsyncIterable[str], AsyncIterable[str]], AsyncGenerator[Any, None]]


async def upper(text: str) -> str:
    """A stage that waits."""
    await moment()
    return text.upper()


async def broadcast_to_two(source: AsyncIterable[str]) -> AsyncGenerator[str, None]:
    """Yield the items of two consumers, one read here and one in a task."""
    async with Broadcast(source, 2, ahead=2) as (one, two):
        heard: list[str] = []

        async def listen() -> None:
            async for item in two:
                heard.append(item)

        task = asyncio.create_task(listen())
        try:
            async for item in one:
                yield item
        finally:
            await two.aclose()
            task.cancel()
            await asyncio.wait({task})
            del task  # it may hold the same error, and its traceback this frame


async def pushed(source: AsyncIterable[str]) -> AsyncGenerator[Any, None]:
    """Yield the items that a producer pushes from the source."""

    async def produce(push: Push[str]) -> None:
        async with Reading(source) as items:
            async for item in items:
                await push.put(item)

    async with aclosing(from_callbacks(produce, ahead=1)) as items:
        async for item in items:
            yield item


OPERATORS: dict[str, Operator] = {
    "sentences": lambda a, _: sentences(a),
    "clauses": lambda a, _: clauses(a, min_chars=0),
    "buffered": lambda a, _: buffered(a, size=2),
    "buffered for a time": lambda a, _: buffered(a, size=2, seconds=0.5),
    "validated": lambda a, _: validated(a, lambda text: "2" not in text),
    "transformed": lambda a, _: transformed(a, upper, str.lower, ahead=1),
    "prefetched": lambda a, _: prefetched(a, ahead=2),
    "merged": lambda a, b: merged(a, b),
    "raced": lambda a, b: raced(a, b),
    "broadcast": lambda a, _: broadcast_to_two(a),
    "cached": lambda a, _: Cache[str]().stream("key", lambda: a),
    "paced": lambda a, _: throttled(a, 1000),
    "paced to playback": lambda a, _: throttled_to_playback(a, lambda _: 0.001, ahead_s=0.002),
    "limited": lambda a, _: limited(a, chunks=2, size=100),
    "with progress": lambda a, _: with_progress(a, total=3),
    "from callbacks": lambda a, _: pushed(a),
    "nested": lambda a, b: with_progress(sentences(prefetched(merged(a, b)))),
}
"""By name."""


def texts(items: list[Any]) -> str:
    """Return all text in the items of an operator."""
    parts: list[str] = []
    for item in items:
        if isinstance(item, list):
            parts += item
        elif isinstance(item, str):
            parts.append(item)
    return "".join(parts)
