"""Tasks that an agent created itself and that outlive its turn.

`asyncio.create_task` in an agent makes a task that no interrupt reaches: tools begin behind the fence, and a
model is paid for an answer that nobody gets. The task factory of the server (`serving.server`) records such
tasks, and this module names those that are left. Each function is named once in the life of the process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any
from weakref import WeakSet

from bargein_protocol import TurnId

log = logging.getLogger("bargein.turn")

AFTER_S = 0.5
"""Time after a turn's cleanup in which its tasks may still end, in seconds."""
_MAX_NAMED = 1000

_named: set[str] = set()


def watch_stray_tasks(
    tasks: Iterable[asyncio.Task[Any]], turn_id: TurnId, loop: asyncio.AbstractEventLoop
) -> None:
    """Log the tasks of a turn that is over if they do not end soon."""
    left = WeakSet(task for task in tasks if not task.done())
    if left:
        loop.call_later(AFTER_S, _name, left, turn_id)


def _name(tasks: WeakSet[asyncio.Task[Any]], turn_id: TurnId) -> None:
    for task in tasks:
        name = _function_of(task)
        if task.done() or name in _named or len(_named) >= _MAX_NAMED:
            continue
        _named.add(name)
        log.warning(
            "a task of turn %s outlives it, and no interrupt ends it: %s. Start it with turn.spawn() or read "
            "it with streams.from_callbacks(); use turn.spawn(…, outlive=True) if it is to go on",
            turn_id,
            name,
        )


def _function_of(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    name = str(getattr(coroutine, "__qualname__", type(coroutine).__name__))
    code = getattr(coroutine, "cr_code", None)
    return name if code is None else f"{name} ({PurePath(code.co_filename).name}:{code.co_firstlineno})"
