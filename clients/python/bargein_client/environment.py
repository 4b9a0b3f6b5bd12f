"""Sources of ids, randomness and time."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


def _new_id() -> str:
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Environment:
    """Sources of ids, randomness and time; tests bring their own.

    Args:
        new_id: Returns an id that is unique in the session.
        random: Returns a number from 0 to below 1.
        sleep: Waits for a number of seconds.
        clock: Returns a time in seconds that never goes back.
    """

    new_id: Callable[[], str] = _new_id
    random: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic
