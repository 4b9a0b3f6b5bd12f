"""How a generator ends the tasks that it owns."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until all have ended, as `ended` does."""
    tasks = [*tasks]
    for task in tasks:
        task.cancel()
    await ended(tasks)


async def ended(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Wait until tasks that were cancelled have ended; their exceptions count as retrieved.

    A second cancel would interrupt their cleanup, so they get none from here; but it hands every
    further cancel of the caller on to them, and waits as long as they take. A task that swallows all of
    them so keeps its generator, and with it the turn, from ending: the turn is given up on and
    counted, and nothing is left behind where nobody looks.

    Raises:
        CancelledError: The caller was cancelled while it waited; the tasks have ended all the same.
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
    """Return what a task that is done has raised; a cancel that it raised by itself is one too."""
    return asyncio.CancelledError() if task.cancelled() else task.exception()
