"""An event loop whose clock is virtual: it moves only when nothing is left to do."""

from __future__ import annotations

import asyncio
import selectors
from selectors import BaseSelector, SelectorKey
from typing import Any

# Time for real sockets on the loopback to deliver what is on its way before the clock jumps.
_REAL_WAIT_S = 0.001


class _JumpingSelector(BaseSelector):
    """Waits a moment for real sockets; when nothing came, moves the clock to the next deadline."""

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
        ready = self._inner.select(min(timeout, _REAL_WAIT_S) if timeout > 0 else 0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready

    def close(self) -> None:
        self._inner.close()

    def get_map(self) -> Any:
        return self._inner.get_map()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Return the virtual time in seconds; it starts at zero."""
        return self._clock.now
