"""Spreads the writes of many sessions, so that the loop looks at its sockets between them.

Timers fire together: with 500 sessions whose agents speak 50 times a second, two dozen wake up in the
same millisecond, and a write takes as long as all the rest of a token. An interrupt that comes then would
wait for all of them. So only the first text of a millisecond is written at once, and the others a few at
a time in the iterations of the loop that follow.

It rests on the clock of uvloop, which stands still during an iteration and counts milliseconds. That of
asyncio goes on, so that there everything is written at once, which is right: an iteration of that loop
takes longer than a write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

# How many are written in an iteration. To look at the sockets takes a tenth of a write.
FEW = 4

# Nothing waits for longer than this and one iteration: where iterations are long, writes must not be rare.
# It is longer than a round of the pacer, after which what gushes has been written with what followed it.
LATE_S = 8e-3


class Late(Protocol):
    """A wire with text that waits."""

    def write_late(self) -> bool:
        """Write what waits; returns whether anything did."""
        ...


class FlushScheduler:
    """One for all wires of an event loop."""

    __slots__ = ("_loop", "_since", "_waiting", "_written_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Late] = deque()
        self._since = 0.0  # when the first of them began to wait
        self._written_at = -1.0

    def puts_off(self, wire: Late, now: float) -> bool:
        """Whether a wire that wants to write is to wait; then `write_late` is called before long.

        Args:
            wire: The wire. It may write earlier of its own accord.
            now: `loop.time()`.
        """
        if self._waiting:
            self._waiting.append(wire)
            return True
        if now != self._written_at:
            self._written_at = now
            return False
        self._waiting.append(wire)
        self._since = now
        self._loop.call_soon(self._write_next)
        return True

    def _write_next(self) -> None:
        waiting, self._written_at = self._waiting, self._loop.time()
        late = self._written_at - self._since >= LATE_S
        written = 0
        try:
            while waiting and (written < FEW or late):
                written += waiting.popleft().write_late()
        finally:  # one socket's fault must not silence the others
            if waiting:
                self._loop.call_soon(self._write_next)
