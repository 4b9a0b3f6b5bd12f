"""Waiting for conditions, never for a guess."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

WAIT_S = 10.0
"""How long a test waits for what takes milliseconds; only a failure takes this long."""


class TooLate(AssertionError):
    """A condition did not come true in time; no mutant is caught by this."""


async def until(condition: Callable[[], T], what: str = "the condition") -> T:
    """Let the loop run until the condition is true; returns its value."""
    loop = asyncio.get_running_loop()
    end = loop.time() + WAIT_S
    while not (value := condition()):
        if loop.time() > end:
            raise TooLate(f"waited {WAIT_S} s for {what}")
        await asyncio.sleep(0)
    return value


async def in_virtual_time(condition: Callable[[], T], what: str = "the condition") -> T:
    """Let virtual time pass until the condition is true; return its value."""
    for _ in range(100_000):
        if value := condition():
            return value
        await asyncio.sleep(0.01)
    raise TooLate(f"waited for {what}")
