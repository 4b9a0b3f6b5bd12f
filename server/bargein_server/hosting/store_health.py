"""Health and life of a store: opened, swept, beaten, until it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Protocol

from ..guard.limits import RareLog
from ..stores.interface import Store, StoreError
from ..stores.patience import Patience
from .membership import BEAT_S, Membership
from .stopping import POLL_S

log = logging.getLogger("bargein.store")
rare_log = RareLog(log)

RETRY_S, MAX_RETRY_S = 1.0, 30.0
"""Seconds until a store that failed is tried again, at first and at most."""

SHARED_RETRY_S, MAX_SHARED_RETRY_S = 0.1, 0.4
"""The same for a store of many servers: all must be back before the first one relies on it (`YOUNG_S`)."""

LATE_LOG_S = 60.0
"""Interval in which a store that is late again and again is logged once."""

SWEEP_S = 3600.0
"""Interval in which old sessions are forgotten."""


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
        error: Its last error; None once a write was answered after it.
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
        self._timer: Patience | None = None
        self._log_late_at = 0.0
        self._is_late_logged = False

    @property
    def works(self) -> bool:
        """Whether the store is open."""
        return self.state in (StoreState.UP, StoreState.LATE)

    @property
    def is_ignored(self) -> bool:
        """Whether no frame waits for it."""
        return self._ignored_since is not None

    @property
    def answers_in_time(self) -> bool:
        """Whether it is open, and no write is late."""
        return self.works and not self.is_ignored

    @property
    def ignored_s(self) -> float:
        """Seconds since frames stopped waiting for it; 0 while it works."""
        return 0.0 if self._ignored_since is None else self._loop.time() - self._ignored_since

    def gauges(self) -> dict[str, float]:
        """Return figures for metrics, by the names of the metrics."""
        return {
            "bargein_store_up": self.state is StoreState.UP,
            "bargein_store_late": self.state is StoreState.LATE,
            "bargein_store_unsaved_seconds": self.ignored_s,
            "bargein_store_failures": self.failures,
        }

    async def comes_back(self, within_s: float, hurried: asyncio.Event) -> None:
        """Wait until the store works, for a bounded time, or until an event."""
        if not self.works:
            log.warning("the store is away: the server waits %g s for it before it ends", within_s)
        deadline = self._loop.time() + within_s
        while not (self.works or hurried.is_set() or self._loop.time() > deadline):
            await asyncio.sleep(POLL_S)

    def watch(self) -> None:
        """Wait for an answer of the store, for a bounded time."""
        self.unwatch()
        self._timer = Patience(self._loop, self._wait_s, self._late)

    def unwatch(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._ignored_since is None:
            self._ignored_since = self._loop.time()
            if self.state is StoreState.UP:
                self.state = StoreState.LATE
            self._log_late()
            self._give_up()

    def _log_late(self) -> None:
        now = self._loop.time()
        if now >= self._log_late_at:  # a store may be late several times a second
            self._log_late_at, self._is_late_logged = now + LATE_LOG_S, True
            log.warning("the store is slow, so clients no longer wait for it: is its disk busy?")

    def answered(self) -> None:
        """Record that a write was answered."""
        self.unwatch()
        if self.error is not None:
            self.error = None
            log.info("the store works again")
        if self.state is StoreState.LATE:
            self.state, self._ignored_since = StoreState.UP, None
            if self._is_late_logged:
                self._is_late_logged = False
                log.info("the store is fast again")

    def opened(self) -> None:
        """Record that the store is open; an error stands until a write succeeds."""
        self.unwatch()
        self.state, self._ignored_since = StoreState.UP, None

    def failed(self, error: Exception) -> None:
        """Record an error; each kind is logged once until the store works again."""
        self.unwatch()
        cause = None
        if not isinstance(error, StoreError):
            cause, error = error, StoreError("unavailable", f"it raised {type(error).__name__}")
        if self.error is None or self.error.kind != error.kind:
            if cause is not None:
                log.error("the store failed", exc_info=cause)
            log.error("conversations are kept in memory only: %s", error)
        self.failures += 1
        self.error = error
        if self._ignored_since is None:
            self._ignored_since = self._loop.time()
        self.state = StoreState.DOWN


class LivingKeeper(Protocol):
    """The parts of the keeper that the life of its store uses.

    Attributes:
        store: The store.
        health: Its health.
        membership: Membership among the servers that share it; None in a store of one server.
        opened: Set when the first attempt to open it is over.
    """

    store: Store
    health: StoreHealth
    membership: Membership | None
    opened: asyncio.Event

    def works_now(self) -> None:
        """Record that the store is open, and write everything."""
        ...

    def fail(self, error: Exception) -> None:
        """Go on in memory."""
        ...

    async def sweep(self) -> None:
        """Forget old sessions."""
        ...

    async def beat(self) -> None:
        """Renew the lease of this server."""
        ...


class StoreLife:
    """Life of one store.

    Args:
        keeper: Its keeper.

    Attributes:
        broken: Set when it has failed.
    """

    def __init__(self, keeper: LivingKeeper) -> None:
        self.broken = asyncio.Event()
        self._keeper = keeper

    async def run(self) -> None:
        """Keep the store open; never returns."""
        keeper, membership = self._keeper, self._keeper.membership
        first_s, most_s = (
            (RETRY_S, MAX_RETRY_S) if membership is None else (SHARED_RETRY_S, MAX_SHARED_RETRY_S)
        )
        loop, delay_s = asyncio.get_running_loop(), first_s
        while True:
            try:
                await keeper.store.open()
                if membership is not None:
                    await membership.join(keeper.health.failures > 0)
            except Exception as error:
                keeper.fail(error)
            else:
                self.broken.clear()
                keeper.works_now()
                since = loop.time()
                await asyncio.gather(self._sweep(), self._beat())
                if loop.time() - since > most_s:  # not one that opens and fails with each write
                    delay_s = first_s
            keeper.opened.set()
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, most_s)
            self.broken.clear()

    def unusable(self, error: StoreError) -> None:
        """Record that a client could not get something from the store.

        Args:
            error: The error. When its files were taken away, the store is opened anew, and gets everything.
        """
        if error.kind == "moved":
            self._keeper.fail(error)
        elif self._keeper.health.works or error.kind == "newer":  # a store that failed was logged
            rare_log.warning("a client is asked to come again: %s", error)

    async def _sweep(self) -> None:
        while not self.broken.is_set():
            try:
                await self._keeper.sweep()
            except Exception as error:
                self._keeper.fail(error)
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await self.broken.wait()

    async def _beat(self) -> None:
        while self._keeper.membership is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self.broken.wait()
            if self.broken.is_set():
                return
            try:
                await self._keeper.beat()
            except Exception as error:
                self._keeper.fail(error)
