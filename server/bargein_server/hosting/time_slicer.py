"""Keeps agents that never suspend from starving everybody else.

A write that does not block never suspends either, so an agent that yields flat out would run until
it is done, and no interrupt would be read. The runner therefore yields to the event loop when its
time slice is over and the loop has not run meanwhile: 200 µs, or less when many turns are busy, so
that all of them together delay a frame by about 5 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SLICE_S = 200e-6
ROUND_S = 5e-3


class TimeSlicer:
    """One for all turns of an event loop.

    Attributes:
        slice_s: How long a turn may run before it must let the loop run.
        clock: Returns what does not change until the loop runs.
    """

    __slots__ = ("_loop", "_round", "_watching", "_yields", "clock", "slice_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.slice_s = SLICE_S
        # The time of uvloop stands still during an iteration. That is all there is to know, and it costs
        # no callback. It counts milliseconds, so that a turn may breathe once too often.
        standing = loop.time() == loop.time()
        self.clock: Callable[[], float] = loop.time if standing else self._watched_round
        self._loop = loop
        self._round = 0
        self._watching = False
        self._yields = 0

    async def yield_to_loop(self) -> None:
        """Let the loop run once."""
        self._yields += 1
        self._watch()
        await asyncio.sleep(0)

    def _watched_round(self) -> float:
        self._watch()
        return self._round

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._loop.call_soon(self._next_round)

    def _next_round(self) -> None:
        self._watching = False
        self._round += 1
        busy, self._yields = self._yields, 0
        self.slice_s = SLICE_S
        if busy:
            self.slice_s = min(SLICE_S, ROUND_S / busy)
            self._watch()  # a quiet round gives the time back
