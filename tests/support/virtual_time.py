"""Event loop with a virtual clock, which moves only when the loop is idle."""

from __future__ import annotations

import asyncio
import selectors
from selectors import BaseSelector, SelectorKey
from typing import Any


class JumpingSelector(BaseSelector):
    """Selector that moves the clock to the next deadline when idle.

    Attributes:
        real_wait_s: Time for real sockets on the loopback to deliver what is on its way before the
            clock jumps, in seconds.
        now: The virtual time in seconds.
    """

    real_wait_s = 0.001

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
        ready = self._inner.select(min(timeout, self.real_wait_s) if timeout > 0 else 0)
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
