"""Retry policy for requests to a model's server.

Only a request that fails before its first token is retried: later, a second answer would begin in the
middle of the first. The wait that a server names is respected. If it names more than a minute, there is no
retry, and the failed turn is marked retryable.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from time import time

import httpx2
import openai

from bargein_protocol import Status
from bargein_server.agent import TurnFailed

FIRST_WAIT_S = 0.5
LONGEST_BACKOFF_S = 8.0
LONGEST_WAIT_S = 60.0
_STATUS_AFTER_S = 2.0
_STATUS_EVERY_S = 10.0

_RETRYABLE = frozenset({408, 409, 429})


class StreamCut(Exception):
    """A stream ended before the model was done, or went silent."""


Failure = openai.OpenAIError | json.JSONDecodeError | UnicodeDecodeError | StreamCut
FAILURES = (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError, StreamCut)
"""Failures between here and a model: errors of the SDK, events that are not JSON, silence."""


class Retries:
    """Retries of one request.

    Args:
        most: Maximum number of retries.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._backoff_s = FIRST_WAIT_S

    def wait_s(self, failure: Failure) -> float | None:
        """Return the seconds before the next attempt; None if there is none."""
        if self._left == 0 or not _may_pass_at_once(failure):
            return None
        self._left -= 1
        named = _named_wait_s(failure)
        if named is not None:
            return named if named <= LONGEST_WAIT_S else None
        wait_s, self._backoff_s = self._backoff_s, min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        return wait_s * random.uniform(0.75, 1.0)


async def wait_with_status(seconds: float) -> AsyncGenerator[Status, None]:
    """Wait, and yield a status now and then so that a long wait is visible."""
    while seconds > 0:
        if seconds > _STATUS_AFTER_S:
            yield Status(message="The model is busy, waiting for it", icon="clock")
        step_s = min(seconds, _STATUS_EVERY_S)
        await asyncio.sleep(step_s)
        seconds -= step_s


@contextmanager
def failing_upstream() -> Iterator[None]:
    """Raise failures of the model as `TurnFailed`; peers do not see the cause."""
    try:
        yield
    except FAILURES as error:
        reason = "overload" if _pool_was_full(error) else "upstream"
        raise TurnFailed(reason, retryable=_may_pass(error)) from error


def _pool_was_full(failure: BaseException) -> bool:
    """Return whether the connection pool was full, so nothing was sent."""
    return isinstance(failure.__cause__, httpx2.PoolTimeout)


def _may_pass(failure: BaseException) -> bool:
    if isinstance(failure, openai.APIStatusError):
        return failure.status_code in _RETRYABLE or failure.status_code >= 500
    return True


def _may_pass_at_once(failure: Failure) -> bool:
    """Return whether an immediate retry may succeed."""
    if _pool_was_full(failure):
        return False  # it has waited in the pool already
    if isinstance(failure, (openai.APIStatusError, openai.APIConnectionError, StreamCut)):
        advice = failure.response.headers.get("x-should-retry") if isinstance(
            failure, openai.APIStatusError) else None  # fmt: skip
        return advice == "true" or (advice != "false" and _may_pass(failure))
    return False


def _named_wait_s(failure: Failure) -> float | None:
    """Return the wait that the server asks for, in seconds (RFC 9110, 10.2.3)."""
    if not isinstance(failure, openai.APIStatusError):
        return None
    headers: httpx2.Headers = failure.response.headers
    for name, factor in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * factor)
        except (KeyError, ValueError):
            continue
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time())
    except (KeyError, ValueError, TypeError):
        return None
