"""Operators over streams: async generators that take async iterables.

    async with aclosing(sentences(limited(model(turn), chunks=2000))) as pieces:
        async for piece in pieces:
            yield piece

Every operator keeps these rules, in an agent of bargein and elsewhere:

- It closes its sources, in the task that read them, whether they ended, failed, or it was cancelled or
  closed at a `yield`. Model streams that have only `close()` are closed too.
- No timeout, cancel scope or task group is open while it stands at a `yield`, so a cancel reaches the
  right task. It uses `asyncio` alone; sources may use anyio.
- Its tasks are its own: created at its first step in the context of the turn, cancelled and awaited before
  it ends. An error is raised once, after the items that came before it.
- While no item is requested (a hold, a slow client), it reads ahead no further than its bound.
- Cancelling drops the items that were read and not given out, and nothing else.

A generator whose first step was never taken has no body to clean up in: that is Python's rule, for the
operators too.

`aiostream` has most of these operators and is not used. Its licence (GPL-3.0-or-later) is incompatible with
ours. Its `merge`, `map` with several sources and `timeout` read with one task for each item (version 0.8.1),
so a source is closed in another task than the one it ran in, where `ContextVar.reset` raises `ValueError`
and the cancel scopes of anyio cannot be left. Its one-source operators (`chunks`, `take`, `spaceout`) do
close in place, when they are entered with `async with xs.stream()`.
"""

from .buffering import Broadcast, Consumer, buffered, merged, prefetched, raced
from .caching import Cache
from .callbacks import Push, from_callbacks
from .flow import (
    Repair,
    Replace,
    limited,
    throttled,
    throttled_to_playback,
    transformed,
    validated,
    with_progress,
)
from .sources import LimitExceeded, StreamClosed, TooSlow
from .text import clauses, sentences

__all__ = [
    "Broadcast",
    "Cache",
    "Consumer",
    "LimitExceeded",
    "Push",
    "Repair",
    "Replace",
    "StreamClosed",
    "TooSlow",
    "buffered",
    "clauses",
    "from_callbacks",
    "limited",
    "merged",
    "prefetched",
    "raced",
    "sentences",
    "throttled",
    "throttled_to_playback",
    "transformed",
    "validated",
    "with_progress",
]
