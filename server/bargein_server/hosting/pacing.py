"""Pacing of an event loop: time slices of agents, fair write scheduling.

A write that does not block never suspends, so an agent that yields without a pause would run until it is
done, and no interrupt would be read. The runner therefore yields to the event loop when its time slice is
over and the loop has not run meanwhile (`TimeSlicer`).

Timers fire together: with 500 sessions whose agents produce 50 tokens a second, two dozen wake up in
the same millisecond, and a write takes as long as all the rest of a token. An interrupt that arrives
then would wait for all of them. So only the first text of a millisecond is written immediately, and
the others a few at a time in the following iterations (`FlushScheduler`). A session's text waits without
a number, so an interrupt purges it (contract 2).

Both use the clock of uvloop, which stands still during an iteration and counts milliseconds. The clock of
asyncio does not stand still. There the scheduler writes everything immediately, which is right: an
iteration of that loop takes longer than a write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

SLICE_S = 200e-6
ROUND_S = 5e-3


class TimeSlicer:
    """Time slicer of all turns of an event loop.

    Attributes:
        slice_s: Seconds that a turn may run before it must yield to the loop: 200 µs, or less when many
            turns are busy, so that all of them together delay a frame by about 5 ms.
        clock: Returns a number that does not change until the loop runs.
    """

    __slots__ = ("_loop", "_round", "_watching", "_yields", "clock", "slice_s")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.slice_s = SLICE_S
        # The time of uvloop stands still during an iteration, which is enough and costs no callback. It
        # counts milliseconds, so a turn may yield once too often.
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
            self._watch()  # after a round without yields the full slice is valid again


# Sessions that write in one iteration. Polling the sockets takes a tenth of the time of a write.
FEW = 4

# Maximum delay of a text, in seconds, plus one iteration: long iterations must not make writes rare. It is
# longer than a round of the time slicer, which writes the text of a fast agent together.
LATE_S = 8e-3


class Deferred(Protocol):
    """Session with text that waits for its write."""

    def write_deferred(self) -> bool:
        """Write the waiting text; return whether there was any."""
        ...


class FlushScheduler:
    """Scheduler of the writes of all sessions of an event loop."""

    __slots__ = ("_loop", "_since", "_waiting", "_written_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Deferred] = deque()
        self._since = 0.0  # time at which the first of them began to wait
        self._written_at = -1.0

    def defers(self, session: Deferred, now: float) -> bool:
        """Return whether a session must wait; then `write_deferred` is called.

        Args:
            session: The session. It may write earlier itself.
            now: `loop.time()`.
        """
        if self._waiting:
            self._waiting.append(session)
            return True
        if now != self._written_at:
            self._written_at = now
            return False
        self._waiting.append(session)
        self._since = now
        self._loop.call_soon(self._write_next)
        return True

    def _write_next(self) -> None:
        waiting, self._written_at = self._waiting, self._loop.time()
        late = self._written_at - self._since >= LATE_S
        written = 0
        try:
            while waiting and (written < FEW or late):
                written += waiting.popleft().write_deferred()
        finally:  # the failure of one socket must not stop the others
            if waiting:
                self._loop.call_soon(self._write_next)
