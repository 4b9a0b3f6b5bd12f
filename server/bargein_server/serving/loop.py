"""The event loop of a process that only serves: run to the end of the server, then closed in bounded time.

`SystemExit` and `KeyboardInterrupt` leave an event loop at once, from any task and callback. Those of an
agent's own tasks are contained where the server makes the task. An agent that calls `asyncio.create_task`
makes one which the server does not know. So whatever leaves the loop is recorded, and the loop runs on
until the turns and connections have ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

log = logging.getLogger("bargein.server")

T = TypeVar("T")


def run_to_end(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[T], stop: Callable[[], None]
) -> tuple[T | None, SystemExit | None]:
    """Run the loop until a task has ended, whatever leaves the loop before.

    Args:
        loop: The loop.
        task: The server, or what follows it.
        stop: Asks the server to stop; each further call is more urgent.

    Returns:
        The result of the task, None if it raised `SystemExit` or `KeyboardInterrupt`, as a server does
        after SIGINT; and the `SystemExit` that another task or callback raised first, None without one.
    """
    left: SystemExit | None = None
    while True:
        try:
            return loop.run_until_complete(task), left
        except (SystemExit, KeyboardInterrupt) as error:
            if task.done():
                return None, left
            log.error("a task or a callback of the agent raised %s: the server stops", type(error).__name__)
            if left is None and isinstance(error, SystemExit):
                left = error
            stop()


async def end_tasks(timeout_s: float) -> int:
    """Cancel all other tasks of the loop, and close its generators and the threads of its executor.

    Args:
        timeout_s: Time for the tasks, and again for the rest, in seconds.

    Returns:
        Number of tasks that have not ended; generators and threads count as one each.
    """
    loop = asyncio.get_running_loop()
    tasks = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in tasks:
        task.cancel()
    left: set[asyncio.Task[Any]] = set()
    if tasks:
        _, left = await asyncio.wait(tasks, timeout=timeout_s)
    # A closing event loop waits for both without a bound.
    closing = loop.create_task(loop.shutdown_asyncgens()), loop.create_task(loop.shutdown_default_executor())
    _, open_ = await asyncio.wait(closing, timeout=timeout_s)
    return len(left) + len(open_)
