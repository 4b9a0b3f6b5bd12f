"""Upstream streams of a turn, which an interrupt closes (contract 6).

Cancelling the agent's task is not enough. No task awaits a generator that stands at its own `yield`, so
the cancel never reaches the stream that it reads from; a `finally` that takes two seconds keeps the
stream for two seconds; a request behind `asyncio.shield` is not reached at all. So the HTTP
clients enter requests and open bodies in the `TurnStreams` of the turn in whose context they were made, and
the end of the turn closes them from outside. `http_client` has the clients that bargein hands out, and
`model_calls` the wrapper of all others.

The runner sets `TURN_STREAMS` in the turn's task before the agent's first step. Ending a turn takes three
actions in one step of the event loop, without an await between them:

    close the fence;  task.cancel();  streams.close()

The cancel comes first, so that a reader gets `CancelledError` and not a network error that it might
handle. A turn that ended normally closes its streams as well: a `break` out of a stream without
`async with` would keep its connection until the garbage collector runs.

The context variable covers child tasks, task groups, `asyncio.to_thread`, and generators that were made
elsewhere but are iterated in the turn. It does not cover `run_in_executor` (which does not copy the
context) or tasks started before the turn. Work that must outlive its turn leaves the
turn explicitly, with `TURN_STREAMS.set(None)` in a task of its own or with
`create_task(..., context=Context())`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from ..agent import TurnClosed

if TYPE_CHECKING:
    import httpx2

FIRST_BYTE_S, SILENCE_S = 600.0, 120.0
"""Defaults of `model_first_byte_s` and `model_silence_s`."""

# The limits of the call itself come first, so that the turn fails with the model's cause.
_SLACK_S = 5.0


class Closable(Protocol):
    """Request in flight or open body."""

    def cancel(self) -> None:
        """Begin to close it; called on the loop that entered it.

        The call is idempotent and returns immediately.
        """
        ...


class TurnStreams:
    """Open requests and bodies of one turn, behind a gate.

    It also notes the bytes of each: a model may think for minutes before the turn has an output, and
    what shows that it is at work are bytes, such as comments that keep its stream alive.

    Args:
        first_byte_s: Seconds that a request or a body without a byte yet counts as at work.
        silence_s: Seconds that a body counts as at work after a byte.
        all_clients: See the attribute.

    Attributes:
        all_clients: Whether streams of clients that bargein did not hand out belong to the turn, too.
        closed: Whether the gate is closed; then requests in the turn's context are refused.
        entered: Number of requests and bodies that have passed the gate so far.
        tasks: Tasks that were created in the turn's context without `turn.spawn`; None before the first.
    """

    __slots__ = (
        "_first_byte_s", "_open", "_silence_s", "_until", "_waiters", "all_clients", "closed", "entered",
        "tasks",
    )  # fmt: skip

    def __init__(
        self, first_byte_s: float = FIRST_BYTE_S, silence_s: float = SILENCE_S, *, all_clients: bool = True
    ) -> None:
        self.all_clients = all_clients
        self.closed = False
        self.entered = 0
        self.tasks: WeakSet[asyncio.Task[Any]] | None = None
        self._first_byte_s, self._silence_s = first_byte_s + _SLACK_S, silence_s + _SLACK_S
        self._until: dict[Closable, float] = {}
        self._open: dict[Closable, asyncio.AbstractEventLoop] = {}
        self._waiters: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        """Return the number of open items, including those that are closing."""
        return len(self._open)

    @property
    def works_until(self) -> float:
        """Time until which an open item counts as at work; 0 when none is open."""
        return max(self._until.values(), default=0.0) if self._until else 0.0

    def received(self, item: Closable) -> None:
        """Record a byte of an open `item`, on the loop that entered it."""
        if item in self._until:
            self._until[item] = asyncio.get_running_loop().time() + self._silence_s

    def enter(self, item: Closable) -> None:
        """Add `item`; `leave` must follow when it is closed.

        Call it on the event loop that runs the item.

        Raises:
            TurnClosed: The gate is closed; `item` was not added.
        """
        # The check comes after the entry: another thread may close the gate at any time, and then either
        # it finds the item or this method finds the gate closed.
        loop = self._open[item] = asyncio.get_running_loop()
        self._until[item] = loop.time() + self._first_byte_s
        if self.closed:
            self.leave(item)
            raise TurnClosed("the turn has ended")
        self.entered += 1

    def record_task(self, task: asyncio.Task[Any]) -> None:
        """Add a task to `tasks`."""
        if self.tasks is None:
            self.tasks = WeakSet()
        self.tasks.add(task)

    def leave(self, item: Closable) -> None:
        """Remove a closed `item`; without effect if it is not in the list."""
        self._open.pop(item, None)
        self._until.pop(item, None)
        if not self._open:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                # The waiter may belong to another loop, or to a closed one.
                with suppress(RuntimeError):
                    waiter.get_loop().call_soon_threadsafe(_wake, waiter)

    def close(self) -> None:
        """Close the gate, and begin to close all items behind it.

        The call is idempotent and returns immediately; the connections are aborted within the next steps
        of the loop, independently of the agent. Call it in the step of `task.cancel()`, after it. Items of
        another thread's event loop are closed by that loop.
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
        """Wait until no item is open. Cancelling is safe.

        New items may follow unless the gate is closed.
        """
        while self._open:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


TURN_STREAMS: ContextVar[TurnStreams | None] = ContextVar("bargein_turn_streams", default=None)
"""Streams of the turn in whose context the caller runs; None outside a turn."""


class HttpClientOwner(Protocol):
    """Server that has an HTTP client.

    Attributes:
        loop: The event loop that the client belongs to.
    """

    loop: asyncio.AbstractEventLoop

    def http_client(self) -> httpx2.AsyncClient:
        """Return the client, made on first use."""
        ...


SERVER: ContextVar[HttpClientOwner | None] = ContextVar("bargein_server", default=None)
"""Server of the turn, also in tasks that outlive it; None outside a server."""
