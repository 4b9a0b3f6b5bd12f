"""Spreads the writes of many sessions, so that the loop looks at its sockets between them.

Timers fire together: with 500 sessions whose agents speak 50 times a second, two dozen wake up in the
same millisecond, and a write takes as long as all the rest of a token. An interrupt that comes then would
wait for all of them. So only the first text of a millisecond is written at once, and the others one by
one in the iterations of the loop that follow.

It rests on the clock of uvloop, which stands still during an iteration and counts milliseconds. That of
asyncio goes on, so that there everything is written at once, which is right: an iteration of that loop
takes longer than a write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

# Nothing waits for longer than this and one iteration: where iterations are long, writes must not be rare.
# It is longer than a round of the pacer, after which what gushes has been written with what followed it.
LATE_S = 8e-3


class Late(Protocol):
    """A wire with text that waits."""

    def write_late(self) -> bool:
        """Write what waits; returns whether anything did."""
        ...


class Outbox:
    """One for all wires of an event loop."""

    __slots__ = ("_loop", "_waiting", "_written_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[float, Late]] = deque()
        self._written_at = -1.0

    def takes(self, now: float) -> bool:
        """Whether a wire may write now, `loop.time()`; if not, it is to `put_off` its text."""
        if now == self._written_at or self._waiting:
            return False
        self._written_at = now
        return True

    def put_off(self, wire: Late, now: float) -> None:
        """Have a wire write within the next iterations. It may write earlier of its own accord."""
        if not self._waiting:
            self._loop.call_soon(self._write_next)
        self._waiting.append((now, wire))

    def _write_next(self) -> None:
        waiting, self._written_at = self._waiting, self._loop.time()
        written = False
        while waiting and not (written and self._written_at - waiting[0][0] < LATE_S):
            written |= waiting.popleft()[1].write_late()
        if waiting:
            self._loop.call_soon(self._write_next)
