"""Patience: a bound on the time of an answer, while this process runs.

A process that stood still finds its timers over before it has read what arrived meanwhile, and before it has
sent what waited for that. The clock alone would show a store as late that was not asked yet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

SLICES = 5
"""Parts of the time, one after the other: standing still uses up one of them."""

LOOKS = 2
"""Iterations of the event loop after the last part, in which what has arrived is read."""


class Patience:
    """Timer that leaves out the time in which its process stands still.

    Standing still uses up one slice of the time, not more.

    Args:
        loop: The event loop.
        seconds: The time.
        over: Called when it is over.
    """

    __slots__ = ("_handle", "_loop", "_over", "_slice_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float, over: Callable[[], object]) -> None:
        self._loop = loop
        self._slice_s = seconds / SLICES
        self._over = over
        self._handle: asyncio.Handle
        self._wait(SLICES + LOOKS)

    def _wait(self, left: int) -> None:
        if left > LOOKS:
            self._handle = self._loop.call_later(self._slice_s, self._wait, left - 1)
        elif left:
            self._handle = self._loop.call_soon(self._wait, left - 1)
        else:
            self._over()

    def cancel(self) -> None:
        """Let nothing be called any more."""
        self._handle.cancel()
