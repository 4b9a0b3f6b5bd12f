"""Keeps agents that never suspend from starving everybody else.

A write that does not block never suspends either, so an agent that yields flat out would run until
it is done, and no interrupt would be read. The runner therefore yields to the event loop when its
time slice is over and the loop has not run meanwhile: 200 µs, or less when many turns are busy, so
that all of them together delay a frame by about 5 ms.
"""

from __future__ import annotations

import asyncio

SLICE_S = 200e-6
ROUND_S = 5e-3


class Pacer:
    """One for all turns of an event loop.

    Attributes:
        slice_s: How long a turn may run before it must let the loop run.
        round: Changes when the loop has run since the last `watch`.
    """

    __slots__ = ("_loop", "_watching", "_yields", "round", "slice_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.slice_s = SLICE_S
        self.round = 0
        self._loop = loop
        self._watching = False
        self._yields = 0

    def watch(self) -> None:
        """Have `round` changed by the next iteration of the loop."""
        if not self._watching:
            self._watching = True
            self._loop.call_soon(self._next_round)

    async def breathe(self) -> None:
        """Let the loop run once."""
        self._yields += 1
        await asyncio.sleep(0)

    def _next_round(self) -> None:
        self._watching = False
        self.round += 1
        busy, self._yields = self._yields, 0
        self.slice_s = min(SLICE_S, ROUND_S / busy) if busy else SLICE_S
