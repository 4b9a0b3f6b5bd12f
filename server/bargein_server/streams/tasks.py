"""Building blocks of the operators: tasks, wake-ups, fair reading."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

READS_PER_YIELD = 256
"""Items that an operator reads in a row before it lets the event loop run."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until all have ended, as `ended` does."""
    tasks = [*tasks]
    for task in tasks:
        task.cancel()
    await ended(tasks)


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait until cancelled tasks have ended.

    Their exceptions count as retrieved. A second cancel would interrupt their cleanup, so this sends none
    of its own. It forwards every further cancel of the caller to the tasks, and waits as long as they
    take. A task that swallows all of them keeps its generator, and so the turn, from ending. The turn is
    then abandoned and counted; no task is leaked.

    Raises:
        CancelledError: The caller was cancelled while it waited; the tasks have ended anyway.
    """
    tasks = [*tasks]
    cut: asyncio.CancelledError | None = None
    while pending := [task for task in tasks if not task.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cut = error
            for task in pending:
                task.cancel()
    for task in tasks:
        failure(task)
    if cut is not None:
        raise cut


def failure(task: asyncio.Task[Any]) -> BaseException | None:
    """Return the exception of a task that is done; a cancel is one too."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()


class Signal:
    """Wake-up for all current waiters.

    A wake-up without a waiter is lost, so check the condition before a wait and after it. A cancelled
    wait has consumed nothing, unlike `asyncio.wait_for(queue.get(), …)`, which may lose the item and, on
    Python 3.11, the cancel.
    """

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[bool]] = set()

    async def wait(self, deadline: float | None = None) -> bool:
        """Wait for `wake`, or for a deadline.

        Args:
            deadline: In seconds on the loop's clock; None waits without a limit.

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
        """Wake all current waiters; call it on the loop's thread."""
        for waiter in self._waiters:
            _settle(waiter, True)


def _settle(waiter: asyncio.Future[bool], woken: bool) -> None:
    if not waiter.done():
        waiter.set_result(woken)


class ReadBudget:
    """Budget of reads before an operator must yield to the event loop.

    The turn's runner yields to the loop between outputs. An operator that drops or gathers items of a
    source which never suspends produces no outputs, so it must yield itself, or no interrupt is read.
    """

    __slots__ = ("_spent",)

    def __init__(self) -> None:
        self._spent = 0

    def reset(self) -> None:
        """Start anew, because an item was given out."""
        self._spent = 0

    async def spend(self) -> None:
        """Count an item that was read, and yield if the budget is spent.

        Call it with no item in hand, because it may be cancelled.
        """
        self._spent += 1
        if self._spent >= READS_PER_YIELD:
            self._spent = 0
            await asyncio.sleep(0)
