"""Letting the event loop run where an operator reads on and on without giving anything out."""

from __future__ import annotations

import asyncio

ITEMS = 256
"""So many items are read in a row before the loop runs."""


class Breath:
    """Counts the items that were read since the last one that was given out.

    The turn's runner lets the loop run between outputs. An operator that drops or gathers items from a
    source which never suspends has no outputs, so it must do it itself, or no interrupt is read.
    """

    __slots__ = ("_read",)

    def __init__(self) -> None:
        self._read = 0

    def given(self) -> None:
        """Say that something was given out."""
        self._read = 0

    async def read(self) -> None:
        """Say that an item was read. Hold none while you call it: it may be cancelled."""
        self._read += 1
        if self._read >= ITEMS:
            self._read = 0
            await asyncio.sleep(0)
