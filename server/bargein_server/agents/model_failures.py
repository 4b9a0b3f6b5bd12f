"""Failures between the server and a model: their kinds, and log lines.

The log names the model, the host, the status and the server's message, and the remedy where there is
one. It never contains the key, and nothing of what was said: servers quote both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from bargein_server.agent import TurnFailed

from .event_stream import NotAStream, ServerReported, StreamCut, StreamSilent
from .model_fields import REMEDIES, Origin, complaint, may_pass, without

# Newer SDKs wrap the errors of the HTTP client, older ones let some through, and the body is read
# without the SDK.
FAILURES = (openai.OpenAIError, httpx2.RequestError, httpx2.InvalidURL, StreamCut)
"""Failures of a model's server, of the way to it, or of its address."""

# Error codes for a prompt that is too long: of OpenAI and most others, and of llama.cpp. Others only say so.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length")
_SAYS_TOO_LONG = re.compile(
    r"context (length|window|size)|(prompt|input|request).{0,20} too (long|large)|too many (input )?tokens"
    r"|exceed.{0,40}(context|token)",
    re.IGNORECASE,
)


OPENAI = Origin()
"""Variables of `OpenAIAgent`."""


@contextmanager
def failing_upstream(
    model: str, base_url: str, key: str, said: Callable[[], Iterable[Any]], origin: Origin = OPENAI
) -> Iterator[None]:
    """Raise failures of the model as `TurnFailed`; peers do not see the cause.

    Args:
        model: The model's name.
        base_url: URL of the API.
        key: The key, which the log must not contain.
        said: Returns the messages of the request, nothing of which the log must contain.
        origin: Names of the variables that hold key and URL.
    """
    try:
        yield
    except FAILURES as error:
        reason = "overload" if _pool_was_full(error) else "upstream"
        detail = f"model {model} at {_host(base_url)}: {_cause(error, key, said(), origin)}"
        raise TurnFailed(reason, retryable=_may_pass(error), detail=detail) from error


def may_pass_at_once(failure: BaseException) -> bool:
    """Return whether an immediate retry may succeed."""
    if _pool_was_full(failure) or _was_silent(failure) or isinstance(failure, NotAStream):
        return False  # it has waited long already, or the address is wrong
    if isinstance(failure, openai.APIStatusError):
        advice = failure.response.headers.get("x-should-retry")
        return advice == "true" or (advice != "false" and _may_pass(failure))
    return isinstance(failure, (openai.APIConnectionError, httpx2.RequestError, StreamCut)) and _may_pass(
        failure
    )


def is_too_long(failure: openai.APIStatusError) -> bool:
    """Return whether a request was refused as too long for the model."""
    if failure.code in _TOO_LONG or failure.type in _TOO_LONG or failure.status_code == 413:
        return True
    return failure.status_code in (400, 422) and _SAYS_TOO_LONG.search(complaint(failure.body)) is not None


def _cause_of(failure: BaseException) -> BaseException:
    return failure.__cause__ if isinstance(failure.__cause__, httpx2.RequestError) else failure


def _pool_was_full(failure: BaseException) -> bool:
    """Return whether the connection pool was full, so nothing was sent."""
    return isinstance(_cause_of(failure), httpx2.PoolTimeout)


def _was_silent(failure: BaseException) -> bool:
    return isinstance(_cause_of(failure), (httpx2.ReadTimeout, StreamSilent))


def _may_pass(failure: BaseException) -> bool:
    if isinstance(failure, openai.APIStatusError):
        return may_pass(failure.status_code)
    return not isinstance(_cause_of(failure), (httpx2.InvalidURL, httpx2.UnsupportedProtocol))


def _host(base_url: str) -> str:
    """Return host and port of a URL, without its user and password."""
    try:
        return urlsplit(base_url).netloc.rpartition("@")[2] or "an address without a host"
    except ValueError:
        return "an invalid address"


def _cause(failure: BaseException, key: str, said: Iterable[Mapping[str, Any]], origin: Origin) -> str:
    cause = _cause_of(failure)
    if isinstance(failure, openai.APIStatusError):
        text = f"{failure.status_code} {without(complaint(failure.body), key, said)}".rstrip()
        remedy = REMEDIES.get(failure.status_code)
        return f"{text}; {remedy.format(origin)}" if remedy else text
    if isinstance(cause, httpx2.PoolTimeout):
        return "no free connection in time; see max_model_calls"
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout):
        why = without(str(cause), key, said) or "timeout"
        return f"cannot connect ({why}); is it running? check {origin.url}"
    if isinstance(cause, httpx2.InvalidURL | httpx2.UnsupportedProtocol):
        return f"not a URL; {origin.url} has the form https://host, with its path"
    if isinstance(cause, httpx2.ReadTimeout):
        return "no byte in time; see model_first_byte_s and model_silence_s"
    if isinstance(cause, StreamSilent):
        return f"{cause}; see model_first_byte_s and model_silence_s"
    if isinstance(cause, ServerReported):
        return f"the server reported {without(str(cause), key, said)}"
    if isinstance(cause, NotAStream):
        return f"{cause}; check {origin.url}{origin.ending}"
    if isinstance(cause, StreamCut):
        return str(cause)
    return f"the connection broke ({type(cause).__name__})"
