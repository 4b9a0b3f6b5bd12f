"""Waking those who wait, without taking anything from them when they are cancelled."""

from __future__ import annotations

import asyncio


class Signal:
    """Wakes everybody who waits at the moment.

    A wake-up that nobody waits for is lost, so look before you wait, and look again afterwards. A wait
    that is cancelled has taken nothing: `asyncio.wait_for(queue.get(), …)`, which this stands in for,
    may lose the item, and on Python 3.11 the cancel.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[bool]] = set()

    async def wait(self, deadline: float | None = None) -> bool:
        """Wait for `wake`, or until the loop's clock shows `deadline` (seconds; None: for ever).

        Returns:
            False when the deadline came first.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.add(waiter)
        timer = None if deadline is None else loop.call_at(deadline, _settle, waiter, False)
        try:
            return await waiter
        finally:
            self._waiters.discard(waiter)
            if timer is not None:
                timer.cancel()

    def wake(self) -> None:
        """Wake everybody who waits. Call it on the loop's thread."""
        for waiter in self._waiters:
            _settle(waiter, True)


def _settle(waiter: asyncio.Future[bool], woken: bool) -> None:
    if not waiter.done():
        waiter.set_result(woken)
