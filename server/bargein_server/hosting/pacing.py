"""Pacing of an event loop: time slices for agents, and fair write scheduling.

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


# Sessions that write in one iteration. To poll the sockets takes a tenth of a write.
FEW = 4

# No text waits for longer than this and one iteration: where iterations are long, writes must not be rare.
# It is longer than a round of the time slicer, after which gushing text has been written with its successors.
LATE_S = 8e-3


class Deferred(Protocol):
    """A session with text that waits."""

    def write_deferred(self) -> bool:
        """Write the waiting text; return whether there was any."""
        ...


class FlushScheduler:
    """Schedules the writes of all sessions of an event loop."""

    __slots__ = ("_loop", "_since", "_waiting", "_written_at")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Deferred] = deque()
        self._since = 0.0  # when the first of them began to wait
        self._written_at = -1.0

    def defers(self, session: Deferred, now: float) -> bool:
        """Return whether a session's text must wait; then `write_deferred` is called soon.

        Args:
            session: The session. It may write earlier on its own.
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
        finally:  # one socket's fault must not silence the others
            if waiting:
                self._loop.call_soon(self._write_next)
