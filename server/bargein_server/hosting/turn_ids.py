"""Ids of a session's turns."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from itertools import count

from bargein_protocol import TurnId


def turn_ids() -> Callable[[], TurnId]:
    """Return a source of ids, unique over sessions and processes.

    The prefix keeps the turns of two sessions apart for a client that had to begin a fresh one.
    """
    return partial(_turn_id, secrets.token_hex(4), count(1))


def _turn_id(prefix: str, numbers: count[int]) -> TurnId:
    return TurnId(f"t_{prefix}_{next(numbers)}")
