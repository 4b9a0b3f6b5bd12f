"""Retries of a model request before its first token, with statuses.

A later failure is not retried: a second answer would begin in the middle of the first. The wait that a
server names is respected. If it names more than a minute, there is no retry.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from time import time
from typing import Any, Self

import openai

from bargein_protocol import Status
from bargein_server.agent import Turn, TurnClosed

from .model_failures import may_pass_at_once

FIRST_WAIT_S = 0.5
LONGEST_BACKOFF_S = 8.0
LONGEST_WAIT_S = 60.0
_STATUS_AFTER_S = 2.0
_STATUS_EVERY_S = 10.0
THINKING_S = 3.0
"""Seconds without output of a model after which a status says that it thinks."""


class Retries:
    """Retries of one request.

    Args:
        most: Maximum number of retries.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._backoff_s = FIRST_WAIT_S

    def wait_s(self, failure: BaseException) -> float | None:
        """Return the seconds before the next attempt; None if there is none."""
        if self._left == 0 or not may_pass_at_once(failure):
            return None
        self._left -= 1
        named = _named_wait_s(failure)
        if named is not None:
            return named if named <= LONGEST_WAIT_S else None
        wait_s, self._backoff_s = self._backoff_s, min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        return wait_s * random.uniform(0.75, 1.0)


class ThinkingStatus:
    """Status while a model sends nothing that can be shown.

    It is sent once, when a wait of some seconds goes on; the first output takes its place.

    Args:
        turn: The turn.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Begin to wait."""
        self._timer = asyncio.get_running_loop().call_later(THINKING_S, self._announce)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self.stop()

    def stop(self) -> None:
        """Stop: the model sent something, or its call is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            if self._task is not None:  # it waits for the end of a hold
                self._task.cancel()

    def _announce(self) -> None:
        with suppress(TurnClosed):
            self._task = self._turn.spawn(self._turn.emit(self._turn.status("Thinking…")))


async def wait_with_status(seconds: float) -> AsyncGenerator[Status, None]:
    """Wait, and yield a status now and then so that a long wait is visible."""
    while seconds > 0:
        if seconds > _STATUS_AFTER_S:
            yield Status(message="The model is busy, waiting for it", icon="clock")
        step_s = min(seconds, _STATUS_EVERY_S)
        await asyncio.sleep(step_s)
        seconds -= step_s


def _named_wait_s(failure: BaseException) -> float | None:
    """Return the wait that the server asks for, in seconds (RFC 9110, 10.2.3)."""
    if not isinstance(failure, openai.APIStatusError):
        return None
    headers: Any = failure.response.headers
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * factor)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time())
    except (KeyError, ValueError, TypeError):
        return None
