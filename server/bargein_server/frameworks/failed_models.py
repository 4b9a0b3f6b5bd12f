"""Failures of a model's server, as the framework's libraries raise them.

They end the turn as `upstream`, as with the model agents, and not as a mistake of the agent. The log gets one
line with the host, the status, the server's message and the remedy, without keys and the conversation.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from bargein_server.agent import TurnFailed

from ..agents.model_fields import REMEDIES, Origin, complaint, may_pass, without

_KINDS = {
    ("anthropic", "APIError"),
    ("google", "APIError"),
    ("httpx", "TransportError"),
    ("httpx2", "TransportError"),
    ("langchain_core", "ModelError"),
    ("openai", "APIError"),
    ("pydantic_ai", "ModelAPIError"),
}
"""Packages, and the base classes of their errors; none of them needs to be installed."""

_ORIGINS = {
    "anthropic": Origin("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"),
    "google": Origin("GOOGLE_API_KEY", "GOOGLE_GEMINI_BASE_URL"),
    "openai": Origin(),
}
_UNKNOWN = Origin("the model's key", "the URL of its API")


def failure_of_model(
    error: BaseException, said: Iterable[Mapping[str, Any]], own: Collection[BaseException] = ()
) -> TurnFailed | None:
    """Return the failure of a turn whose model failed.

    It is None for any other error.

    Args:
        error: The exception that ended the run.
        said: The conversation, nothing of which the log must contain.
        own: Errors of tools, which may use such libraries for purposes of their own.
    """
    causes = list(_causes(error))
    failure = next((cause for cause in causes if _packages(cause)), None)
    if failure is None or any(cause is each for cause in causes for each in own):
        return None
    status = _status(failure)
    where = "the model" if (name := getattr(failure, "model_name", None)) is None else f"model {name}"
    if host := next(filter(None, map(_host, causes)), None):
        where = f"{where} at {host}"
    packages = {package for cause in causes for package in _packages(cause)}
    origin = next((_ORIGINS[package] for package in sorted(packages & _ORIGINS.keys())), _UNKNOWN)
    why = _without_keys(_why(failure, status, causes, origin), said)
    retryable = may_pass(status) and getattr(failure, "code", None) != "insufficient_quota"
    return TurnFailed("upstream", retryable=retryable, detail=f"{where}: {why}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
            continue
        yield error
        error = error.__cause__


def _packages(error: BaseException) -> set[str]:
    """Return the packages of the model errors that an error is."""
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in type(error).__mro__}
    return {package for package, _ in bases & _KINDS}


def _status(failure: BaseException) -> int | None:
    for name in ("status_code", "code"):
        if isinstance(value := getattr(failure, name, None), int):
            return value
    return None


def _host(error: BaseException) -> str | None:
    try:
        url = error.request.url  # type: ignore[attr-defined]
        return f"{url.host}:{url.port}" if url.port else str(url.host)
    except (AttributeError, RuntimeError):  # httpx raises the latter where there is none
        return None


def _why(failure: BaseException, status: int | None, causes: list[BaseException], origin: Origin) -> str:
    if status is not None:
        body = getattr(failure, "body", None) or getattr(failure, "details", None)
        text = f"{status} {complaint(body)}".rstrip()
        remedy = REMEDIES.get(status)
        return f"{text}; {remedy.format(origin)}" if remedy else text
    kinds = {base.__name__ for cause in causes for base in type(cause).__mro__}
    if kinds & {"ConnectError", "ConnectTimeout"}:
        return f"cannot connect; is it running? check {origin.url}"
    if kinds & {"APITimeoutError", "TimeoutException"}:
        return "no byte in time"
    if kinds & {"TransportError", "APIConnectionError"}:
        return f"the connection broke ({type(causes[-1]).__name__})"
    return str(getattr(failure, "message", "")) or type(failure).__name__


def _without_keys(why: str, said: Iterable[Mapping[str, Any]]) -> str:
    said = list(said)
    for origin in _ORIGINS.values():
        why = without(why, os.environ.get(origin.key, ""), said)
    return why
