"""What a turn holds open upstream, so that an interrupt can close it (contract 6).

Cancelling the agent's task is not enough. A generator that stands at its own `yield` is not being
awaited by anyone, so the cancel never reaches the stream it reads from; a `finally` that takes two
seconds keeps the stream for two seconds; a request behind `asyncio.shield` is not reached at all.
So the HTTP client keeps a list: every request and every open body is entered in the `TurnStreams`
of the turn in whose context it was made, and whoever ends the turn closes them from outside.

The runner sets `TURN_STREAMS` in the turn's task before the agent's first step. Ending a turn is
three things in one step of the event loop, with no await between:

    close the fence;  task.cancel();  streams.close()

The cancel comes first, so that a reader sees `CancelledError` and not a network error that it might
apologise for. A turn that ended normally closes its streams as well: a `break` out of a stream
without `async with` would hold its connection until the collector runs.

What a context variable sees, this sees: child tasks, task groups, `asyncio.to_thread`, and
generators made elsewhere but iterated in the turn. It does not see `run_in_executor` (which does
not copy the context), tasks started before the turn, or clients that are not ours. Work that shall
outlive its turn leaves it on purpose, with `TURN_STREAMS.set(None)` in a task of its own or with
`create_task(..., context=Context())`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from typing import Protocol

from ..agent import TurnClosed


class Closable(Protocol):
    """A request in flight or an open body."""

    def cancel(self) -> None:
        """Begin to close it; idempotent, returns at once, called on the loop that entered it."""
        ...


class TurnStreams:
    """The requests and bodies that one turn has open, behind a gate.

    Attributes:
        closed: The gate: once true, requests in the turn's context are refused.
        entered: How many requests and bodies were let through the gate so far.
    """

    __slots__ = ("_open", "_waiters", "closed", "entered")

    def __init__(self) -> None:
        self.closed = False
        self.entered = 0
        self._open: dict[Closable, asyncio.AbstractEventLoop] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        """Return how many are open, those that are being closed included."""
        return len(self._open)

    def enter(self, item: Closable) -> None:
        """Let `item` in; `leave` must follow when it is closed. Call it on the loop that runs it.

        Raises:
            TurnClosed: The gate is closed; `item` was not let in.
        """
        # In, then look: another thread may close the gate at any point, and either it finds the
        # item or we find the gate closed.
        self._open[item] = asyncio.get_running_loop()
        if self.closed:
            self.leave(item)
            raise TurnClosed("the turn has ended")
        self.entered += 1

    def leave(self, item: Closable) -> None:
        """Say that `item` is closed; harmless when it is not in the list."""
        self._open.pop(item, None)
        if not self._open:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                # The loop of whoever waits may be another one, or may be gone.
                with suppress(RuntimeError):
                    waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    def close(self) -> None:
        """Close the gate, and begin to close everything behind it.

        Returns at once; the connections are aborted within the next steps of the loop, whatever the
        agent does. Call it in the step of `task.cancel()`, after it. Idempotent. What was opened on
        another thread's event loop is closed by that loop.
        """
        self.closed = True
        here = asyncio.get_running_loop()
        for item, loop in list(self._open.items()):
            if loop is here:
                item.cancel()
                continue
            try:
                loop.call_soon_threadsafe(item.cancel)
            except RuntimeError:  # that loop is closed, and its connections with it
                self.leave(item)

    async def drained(self) -> None:
        """Wait until nothing is open. Cancelling is safe.

        Only after `close` does it stay so.
        """
        while self._open:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


TURN_STREAMS: ContextVar[TurnStreams | None] = ContextVar("bargein_turn_streams", default=None)
"""The streams of the turn in whose context the caller runs; None outside a turn."""
