"""An event loop without sockets, threads and clocks: everything that it does follows from a seed.

Time is virtual: it moves a little with every iteration, and jumps when nothing is left to do. What
asyncio promises is kept: callbacks run in the order of `call_soon`, timers in the order of their
times. What it does not promise is drawn: which connections are found ready by a poll, and in which
order; the order of timers that are due at the same time; how late a timer is; and how sets of tasks and
futures iterate, which in earnest depends on where in memory they lie.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import Handle, TimerHandle
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Any

# How much time passes at most in an iteration, and with each look at the clock.
ITERATION_S = 20e-6
LOOK_S = 40e-6

# A loop that takes this many iterations without a pause of virtual time hangs.
LIVELOCK = 200_000


Arrival = tuple[float, int, Callable[[], None]]


class Stuck(AssertionError):
    """Nothing will ever happen again, or too much happens in no time."""


class _Future(asyncio.Future[Any]):
    """A future whose hash follows from the seed."""

    def __init__(self, *, loop: SimulatedLoop) -> None:
        self._hash = loop.next_hash()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._hash


class _Task(asyncio.Task[Any]):
    """A task whose hash follows from the seed."""

    def __init__(self, work: Any, *, loop: SimulatedLoop, **options: Any) -> None:
        self._hash = loop.next_hash()
        super().__init__(work, loop=loop, **options)

    def __hash__(self) -> int:
        return self._hash


class SimulatedLoop(asyncio.BaseEventLoop):
    """See the module.

    Args:
        chance: Where all of its randomness comes from.

    Attributes:
        steps: How many callbacks have run.
        longest_s: How long the longest of them took, in virtual seconds; looking at the clock takes time.
        complaints: What was said to its exception handler.
    """

    _ready: deque[Handle]
    _scheduled: list[TimerHandle]
    _stopping: bool
    _timer_cancelled_count: int

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.steps = 0
        self.longest_s = 0.0
        self.complaints: list[str] = []
        self._random = chance.random
        self._shuffle = chance.shuffle
        self._now = self._standing = 1.0
        self._paused_at = 0
        self._iterations = 0
        self._scramble = chance.getrandbits(30) * 2 + 1
        self._serials = count(1)
        self._arrivals: list[Arrival] = []
        self._outside = copy_context()
        self.set_task_factory(_new_task)
        self.set_exception_handler(_note_complaint)

    # --- time ------------------------------------------------------------------------------------

    def time(self) -> float:
        """Return the virtual time in seconds. Like that of uvloop, it stands still during an iteration."""
        return self._standing

    def look_at_clock(self) -> float:
        """Return the time as `time.perf_counter` does; looking takes time, or busy code would take none."""
        self._now += self._random() * LOOK_S
        return self._now

    def calm(self) -> None:
        """Count from here when too much happens in no time."""
        self._paused_at = self._iterations

    # --- what comes from outside -----------------------------------------------------------------

    def arrive(self, when: float, callback: Callable[[], None]) -> None:
        """Have a poll at this time or later find something that `callback` takes in."""
        heappush(self._arrivals, (when, next(self._serials), callback))

    # --- what asyncio asks of a loop -------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future."""
        return _Future(loop=self)

    def next_hash(self) -> int:
        """Return the hash of one more future."""
        return (next(self._serials) * self._scramble) & 0xFFFFFFFF

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Refuse: what a thread does when follows from no seed."""
        raise RuntimeError("a simulation has no threads")

    def _write_to_self(self) -> None:
        """Called by `call_soon_threadsafe`, which finalizers of generators use."""

    def _run_once(self) -> None:
        ready = self._ready
        if not ready and not self._stopping:
            self._jump()
        elif self._iterations - self._paused_at > LIVELOCK:
            raise Stuck(f"{LIVELOCK} iterations in no time")
        self._iterations += 1
        self._now += self._random() * ITERATION_S
        self._standing = self._now
        if self._arrivals and self._arrivals[0][0] <= self._now:
            self._poll()
        if self._scheduled and self._scheduled[0].when() <= self._now:
            self._collect_timers()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle._cancelled:
                self.steps += 1
                began = self._now
                handle._run()
                if self._now - began > self.longest_s:
                    self.longest_s = self._now - began

    def _jump(self) -> None:
        """Let time pass until something is due."""
        scheduled = self._scheduled
        if self._timer_cancelled_count * 2 > len(scheduled) + 100:
            scheduled[:] = [handle for handle in scheduled if not handle._cancelled]
            heapify(scheduled)
            self._timer_cancelled_count = 0
        while scheduled and scheduled[0]._cancelled:
            heappop(scheduled)
            self._timer_cancelled_count -= 1
        when = self._arrivals[0][0] if self._arrivals else None
        if scheduled and (when is None or scheduled[0].when() < when):
            when = scheduled[0].when()
        if when is None:
            raise Stuck("nothing will ever happen again")
        if when > self._now:
            self._now = when
            self._paused_at = self._iterations

    def _poll(self) -> None:
        """Find some of what has come, in any order; a poll need not find all of it."""
        arrivals = self._arrivals
        found: list[Arrival] = []
        missed: list[Arrival] = []
        while arrivals and arrivals[0][0] <= self._now:
            arrival = heappop(arrivals)
            (missed if self._ready and self._random() < 0.1 else found).append(arrival)
        for arrival in missed:
            heappush(arrivals, arrival)
        if len(found) > 1:
            self._shuffle(found)
        for _, _, callback in found:
            self._ready.append(Handle(callback, (), self, self._outside))

    def _collect_timers(self) -> None:
        """Find the timers that are due, in the order of their times."""
        scheduled, due = self._scheduled, []
        while scheduled and scheduled[0].when() <= self._now:
            handle = heappop(scheduled)
            handle._scheduled = False  # type: ignore[attr-defined]
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                due.append(handle)
        if len(due) > 1:
            self._shuffle(due)
            due.sort(key=TimerHandle.when)
        self._ready.extend(due)

    def timers(self) -> list[TimerHandle]:
        """Return the timers that are still set."""
        return [handle for handle in self._scheduled if not handle._cancelled]


def _new_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    *,
    context: Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    assert isinstance(loop, SimulatedLoop)
    return _Task(work, loop=loop, context=context, **options)


def _note_complaint(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, SimulatedLoop)
    loop.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")
