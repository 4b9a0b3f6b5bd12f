"""Event loop with a virtual clock, which moves only when the loop is idle."""

from __future__ import annotations

import asyncio
import selectors
from selectors import BaseSelector, SelectorKey
from typing import Any


class JumpingSelector(BaseSelector):
    """Selector that moves the clock to the next deadline when idle.

    Attributes:
        real_wait_s: Time for other threads to deliver their results before the clock jumps, in seconds.
        socket_wait_s: The same with real sockets on the loopback, which a busy kernel serves later.
        now: The virtual time in seconds.
    """

    real_wait_s = 0.001
    socket_wait_s = 0.02

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self.now = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        return self._inner.unregister(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if timeout is None:
            return self._inner.select(None)
        # One descriptor is the loop's own, with which threads wake it up.
        real_wait_s = self.socket_wait_s if len(self._inner.get_map()) > 1 else self.real_wait_s
        ready = self._inner.select(min(timeout, real_wait_s) if timeout > 0 else 0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready

    def close(self) -> None:
        self._inner.close()

    def get_map(self) -> Any:
        return self._inner.get_map()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Event loop on the clock of a `JumpingSelector`."""

    def __init__(self, clock: JumpingSelector | None = None) -> None:
        self._clock = clock if clock is not None else JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the virtual time in seconds; it starts at zero."""
        return self._clock.now

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait for the threads without a timeout, which would pass in no time."""
        await super().shutdown_default_executor()
