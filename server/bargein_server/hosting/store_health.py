"""Health of a server's store: whether clients wait for it, and what is wrong with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum

from ..stores.interface import StoreError

log = logging.getLogger("bargein.store")


class StoreState(Enum):
    """State of a server's store."""

    OPENING = "opening"
    UP = "up"
    LATE = "late"
    """A write takes longer than `store_wait_s`, so nobody waits for it."""
    DOWN = "down"
    """It failed; everything goes on in memory."""

    __hash__ = object.__hash__


class StoreHealth:
    """Health of one store.

    Args:
        loop: The event loop.
        wait_s: Time that clients wait for a write, or for the store to open.
        give_up: Called when they no longer wait.

    Attributes:
        state: State of the store.
        error: Its last error; None while it works.
        failures: Number of its errors.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, wait_s: float, give_up: Callable[[], None]) -> None:
        self.state = StoreState.OPENING
        self.error: StoreError | None = None
        self.failures = 0
        self._loop = loop
        self._wait_s = wait_s
        self._give_up = give_up
        self._ignored_since: float | None = None
        self._timer: asyncio.Handle | None = None

    @property
    def works(self) -> bool:
        """Whether the store is open."""
        return self.state in (StoreState.UP, StoreState.LATE)

    @property
    def is_ignored(self) -> bool:
        """Whether nobody waits for it."""
        return self._ignored_since is not None

    @property
    def ignored_s(self) -> float:
        """Seconds for which nobody has waited for it; 0 while it works."""
        return 0.0 if self._ignored_since is None else self._loop.time() - self._ignored_since

    def watch(self) -> None:
        """Wait for an answer of the store, for a bounded time."""
        self.unwatch()
        self._timer = self._loop.call_later(self._wait_s, self._look_again, 2)

    def unwatch(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_again(self, looks: int) -> None:
        # Not by the clock alone: a process that stood still has not read the answer that waits for it.
        if looks:
            self._timer = self._loop.call_soon(self._look_again, looks - 1)
            return
        self._timer = None
        if self._ignored_since is None:
            self._ignored_since = self._loop.time()
            if self.state is StoreState.UP:
                self.state = StoreState.LATE
            log.warning("the store is slow, so clients no longer wait for it: is its disk busy?")
            self._give_up()

    def answered(self) -> None:
        """Record that a write was answered."""
        self.unwatch()
        if self.state is StoreState.LATE:
            self.state, self._ignored_since = StoreState.UP, None
            log.info("the store is fast again")

    def opened(self) -> None:
        """Record that the store is open."""
        self.unwatch()
        if self.error is not None:
            log.info("the store works again")
        self.state, self.error, self._ignored_since = StoreState.UP, None, None

    def failed(self, error: Exception) -> None:
        """Record an error; each kind is logged once until the store works again."""
        self.unwatch()
        if not isinstance(error, StoreError):
            log.error("the store failed", exc_info=error)
            error = StoreError("unavailable", f"it raised {type(error).__name__}")
        if self.error is None or self.error.kind != error.kind:
            log.error("conversations are kept in memory only: %s", error)
        self.failures += 1
        self.error = error
        if self._ignored_since is None:
            self._ignored_since = self._loop.time()
        self.state = StoreState.DOWN
