"""The event loop of `bargein-server`: that of uvloop, with timers that share one for each millisecond.

Agents that speak by the clock sleep between two pieces, and so does whoever paces audio: a server has as
many timers a second as tokens. Each of uvloop's has a place in the heap of libuv and is closed in the
iteration after, which takes a seventh of what a token takes. But they count milliseconds, so that with 500
sessions two dozen fire together. Here those stand in a list behind one of them.

A timer fires up to a millisecond late and never early, and those of a millisecond in the order in which
they were made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from time import monotonic
from typing import Any

import uvloop
from msgspec import Struct

# What is due later than this, or at once, is left to uvloop.
LONGEST_S = 86_400.0

Call = tuple[Callable[..., object], tuple[Any, ...], Context]


class Timer(Struct, eq=False):
    """What `Loop.call_later` returns, with the methods of `asyncio.TimerHandle`.

    Attributes:
        call: What it will call; None once it has, or was cancelled.
    """

    _when: float
    call: Call | None
    _millisecond: _Millisecond
    _cancelled: bool = False

    def when(self) -> float:
        """Return when it is due, in seconds of the loop's clock."""
        return self._when

    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Let nothing be called any more."""
        self._cancelled = True
        if self.call is not None:
            self.call = None
            self._millisecond.remove(self)


class _Millisecond:
    """The timers of a millisecond.

    Attributes:
        timers: Those that wait, in their order.
        handle: What fires them.
    """

    __slots__ = ("_all", "_due", "handle", "timers")

    def __init__(self, due: int, all_of_them: dict[int, _Millisecond]) -> None:
        self.timers: dict[Timer, None] = {}
        self.handle: asyncio.TimerHandle
        self._due = due
        self._all = all_of_them
        all_of_them[due] = self

    def remove(self, timer: Timer) -> None:
        """Forget one that was cancelled, as most timeouts are, and with the last of them the millisecond."""
        self.timers.pop(timer, None)  # once they are being fired, it is not there any more
        if not self.timers:
            self.handle.cancel()
            self.forget()

    def forget(self) -> None:
        """Let nobody join any more."""
        self._all.pop(self._due, None)


class Loop(uvloop.Loop):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self._milliseconds: dict[int, _Millisecond] = {}

    # The clock of uvloop stands still during an iteration: by that, timers would fire early.

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer | asyncio.TimerHandle:
        """Call a function after a delay.

        Args:
            delay: In seconds.
            callback: The function.
            args: Its arguments.
            context: In which it runs; by default a copy of the caller's.
        """
        now = monotonic()
        return self._timer(now, now + delay, callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Timer | asyncio.TimerHandle:
        """Call a function at some time of the loop's clock, in seconds; see `call_later`."""
        return self._timer(monotonic(), when, callback, args, context)

    def _timer(
        self,
        now: float,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> Timer | asyncio.TimerHandle:
        if not now < when < now + LONGEST_S:
            return super().call_later(when - now, callback, *args, context=context)
        due = int(when * 1000) + 1
        millisecond = self._milliseconds.get(due)
        if millisecond is None:
            millisecond = _Millisecond(due, self._milliseconds)
            left = due - int(now * 1000)  # uvloop counts from the beginning of this millisecond
            millisecond.handle = super().call_later(left / 1000, self._fire, millisecond)
        timer = Timer(when, (callback, args, copy_context() if context is None else context), millisecond)
        millisecond.timers[timer] = None
        return timer

    def _fire(self, millisecond: _Millisecond) -> None:
        millisecond.forget()
        timers, millisecond.timers = millisecond.timers, {}  # not a moving target: one may cancel another
        self._call_all(iter(timers))

    def _call_all(self, timers: Iterator[Timer]) -> None:
        for timer in timers:
            if timer.call is not None:
                (callback, args, context), timer.call = timer.call, None
                try:
                    context.run(callback, *args)
                except (SystemExit, KeyboardInterrupt):
                    self.call_soon(self._call_all, timers)
                    raise
                except BaseException as error:
                    # As any loop does: it must not matter to the others.
                    name = getattr(callback, "__qualname__", repr(callback))
                    self.call_exception_handler(
                        {"message": f"Exception in callback {name}", "exception": error, "handle": timer}
                    )
