"""The other side of `json_lines` in Python: a program that answers each line of its input.

The program may run in an environment of its own, so only the standard library is used here.

asyncio.run(answer({"send": send}))     # {"step": "send", "words": "hello"} → await send(words="hello")
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

WAIT_S = 30.0
"""For one step; only a failure takes this long."""


async def answer(steps: Mapping[str, Callable[..., Awaitable[Any]]]) -> None:
    """Answer each line until the input ends."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        try:
            async with asyncio.timeout(WAIT_S):
                result = await steps[request.pop("step")](**request)
        except Exception:
            result = {"failed": traceback.format_exc()}
        print(json.dumps(result or {}), flush=True)


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition; the step's time limits it."""
    while not condition():
        await asyncio.sleep(0.005)
