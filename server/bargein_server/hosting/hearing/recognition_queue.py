"""Places for transcriptions and judgements; a full queue fails at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

WAITING_PER_PLACE = 8


class QueueFull(Exception):
    """Too many recognitions wait."""


class RecognitionQueue:
    """Places for recognitions of all sessions.

    Args:
        places: Recognitions that run at the same time.

    Attributes:
        running: Recognitions that run.
    """

    def __init__(self, places: int) -> None:
        self.running = 0
        self._places = places
        self._spare = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Number of recognitions that wait for a place."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self, *, first: bool) -> AsyncIterator[None]:
        """Hold a place; a cancelled wait takes none.

        Args:
            first: Go before the others that wait: a held turn waits for it.

        Raises:
            QueueFull: Too many wait already.
        """
        if self.running >= self._places:
            if len(self._waiting) >= WAITING_PER_PLACE * self._places and not first:
                raise QueueFull
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            (self._waiting.appendleft if first else self._waiting.append)(waiter)
            try:
                await waiter  # its place was counted by the one who left
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._leave()
                else:
                    self._waiting.remove(waiter)
                raise
        else:
            self.running += 1
        try:
            yield
        finally:
            self._leave()

    @asynccontextmanager
    async def spare(self) -> AsyncIterator[None]:
        """Work beside the places, while nothing needs them.

        At most one of two processors works on it, and nothing ever waits for it.

        Raises:
            QueueFull: Somebody needs the processors.
        """
        if self.running or self._waiting or self._spare >= max(1, self._places // 2):
            raise QueueFull
        self._spare += 1
        try:
            yield
        finally:
            self._spare -= 1

    def _leave(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self.running -= 1
