"""When a request to a model's server is made again, and after how long.

Only what fails before the first token is tried again: after it, a second answer would begin anew in
the middle of the first. The time that a server names is respected; one that names more than a minute
is not asked again, but its failure says that the input may be sent again later.
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
_TELL_AFTER_S = 2.0
_TELL_EVERY_S = 10.0

_RETRYABLE = frozenset({408, 409, 429})


class StreamCut(Exception):
    """A stream that ended before the model was done, or went silent."""


Failure = openai.OpenAIError | json.JSONDecodeError | UnicodeDecodeError | StreamCut
FAILURES = (openai.OpenAIError, json.JSONDecodeError, UnicodeDecodeError, StreamCut)
"""What goes wrong between here and a model: the SDK's errors, events that are no JSON, silence."""


class Retries:
    """The attempts of one request.

    Args:
        most: How often it may be made again.
    """

    def __init__(self, most: int) -> None:
        self._left = most
        self._backoff_s = FIRST_WAIT_S

    def wait_s(self, failure: Failure) -> float | None:
        """Return how long to wait before the next attempt, None when there is to be none."""
        if self._left == 0 or not _passes(failure):
            return None
        self._left -= 1
        named = _named_wait_s(failure)
        if named is not None:
            return named if named <= LONGEST_WAIT_S else None
        wait_s, self._backoff_s = self._backoff_s, min(self._backoff_s * 2, LONGEST_BACKOFF_S)
        return wait_s * random.uniform(0.75, 1.0)


async def wait_with_status(seconds: float) -> AsyncGenerator[Status, None]:
    """Wait; say so now and then when it takes long, so that silence is not taken for a fault."""
    while seconds > 0:
        if seconds > _TELL_AFTER_S:
            yield Status(message="The model is busy, waiting for it", icon="clock")
        step_s = min(seconds, _TELL_EVERY_S)
        await asyncio.sleep(step_s)
        seconds -= step_s


@contextmanager
def failing_upstream() -> Iterator[None]:
    """Turn what goes wrong with the model into the turn's failure, whose cause no peer sees."""
    try:
        yield
    except FAILURES as error:
        reason = "overload" if _found_no_place(error) else "upstream"
        raise TurnFailed(reason, retryable=_may_pass(error)) from error


def _found_no_place(failure: BaseException) -> bool:
    """Whether the request never left: other model calls of this server took all places."""
    return isinstance(failure.__cause__, httpx2.PoolTimeout)


def _may_pass(failure: BaseException) -> bool:
    if isinstance(failure, openai.APIStatusError):
        return failure.status_code in _RETRYABLE or failure.status_code >= 500
    return True


def _passes(failure: Failure) -> bool:
    """Whether the same request may succeed at once; garbage is likely to be garbage again."""
    if _found_no_place(failure):
        return False  # it has waited long enough
    if isinstance(failure, (openai.APIStatusError, openai.APIConnectionError, StreamCut)):
        said = failure.response.headers.get("x-should-retry") if isinstance(
            failure, openai.APIStatusError) else None  # fmt: skip
        return said == "true" or (said != "false" and _may_pass(failure))
    return False


def _named_wait_s(failure: Failure) -> float | None:
    """Return how long the server asks to wait (RFC 9110 section 10.2.3), None when it does not."""
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
