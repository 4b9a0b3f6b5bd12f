"""Operators over streams: each takes async iterables and is an async generator.

    async with aclosing(sentences(limited(model(turn), chunks=2000))) as pieces:
        async for piece in pieces:
            yield piece

Every operator keeps these rules, in an agent of bargein and on its own:

- It closes what it reads, in the task that read it, whether it came to its end, failed, was cancelled
  or was closed at a `yield`. Model streams that only have `close()` are closed too.
- No time-out, cancel scope or task group is open while it stands at a `yield`, so a cancel goes where it
  belongs. It uses `asyncio` alone; sources may use anyio.
- Tasks that it needs are its own: made at its first step, in the context of the turn, cancelled and
  awaited before it ends. An error is raised once, after the items that came before it.
- While nobody asks (a hold, a slow client), it reads ahead no further than its bound.
- Cancelling drops what was read and not given out, and nothing else: waits take no items.

A generator whose first step was never taken has no body to clean up in: that is Python's rule, for the
operators too.

`aiostream` has most of these and is not used. Its licence (GPL-3.0-or-later) does not go with ours; and
its `merge`, `map` with several sources, `timeout` and the like read with one task for each item (version
0.8.1): a source is then closed in another task than the one it ran in, where `ContextVar.reset` raises
`ValueError` and the cancel scopes of anyio cannot be left. Its one-source operators (`chunks`, `take`,
`spaceout`) do close in place, when they are entered with `async with xs.stream()`.
"""

from .broadcast import Broadcast, Consumer
from .buffered import buffered
from .cached import Cache
from .callbacks import Push, from_callbacks
from .errors import LimitExceeded, StreamClosed, TooSlow
from .limited import limited
from .merged import merged
from .prefetched import prefetched
from .progress import with_progress
from .raced import raced
from .sentences import clauses, sentences
from .throttled import throttled, throttled_to_playback
from .transformed import transformed
from .validated import Repair, Replace, validated

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
