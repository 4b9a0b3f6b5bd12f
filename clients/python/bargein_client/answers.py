"""Answers of the server: futures of interrupts and rewinds, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Generic, TypeVar

import bargein_protocol as bp

from .errors import BargeinError, InputRejected, InterruptRefused, RequestRefused, RewindRefused
from .event_reader import shared_result
from .outbox import Outcome

T = TypeVar("T")


class PendingAnswer(Generic[T]):
    """Answer to a sent request: an awaitable that need not be awaited."""

    def __init__(self, future: asyncio.Future[T | BargeinError]) -> None:
        self._future = future

    def __await__(self) -> Generator[Any, Any, T]:
        return shared_result(self._future).__await__()


class Answers:
    """Futures of the requests that wait for an answer of their own."""

    def __init__(self) -> None:
        self._interrupts: dict[str, asyncio.Future[bp.InterruptResult | BargeinError]] = {}
        self._rewinds: dict[str, asyncio.Future[bp.SessionRewound | BargeinError]] = {}

    def to_interrupt(self, request_id: str) -> asyncio.Future[bp.InterruptResult | BargeinError]:
        """Return an interrupt's future: result, refusal or `finish`'s result."""
        answer: asyncio.Future[bp.InterruptResult | BargeinError] = asyncio.Future()
        self._interrupts[request_id] = answer
        return answer

    def to_rewind(self, request_id: str) -> asyncio.Future[bp.SessionRewound | BargeinError]:
        """Return a rewind's future: event, refusal or `finish`'s result."""
        answer: asyncio.Future[bp.SessionRewound | BargeinError] = asyncio.Future()
        self._rewinds[request_id] = answer
        return answer

    def settle(self, request_id: str, outcome: Outcome) -> bool:
        """Set a request's result; False when the id has no request."""
        if isinstance(outcome, (bp.InterruptResult, bp.ErrorEvent)) and request_id in self._interrupts:
            answer = self._interrupts.pop(request_id)
            if isinstance(outcome, bp.ErrorEvent):
                answer.set_result(_refused(InterruptRefused, outcome))
            else:
                answer.set_result(outcome)
        elif isinstance(outcome, (bp.SessionRewound, bp.ErrorEvent)) and request_id in self._rewinds:
            rewound = self._rewinds.pop(request_id)
            if isinstance(outcome, bp.ErrorEvent):
                rewound.set_result(_refused(RewindRefused, outcome))
            else:
                rewound.set_result(outcome)
        else:
            return False
        return True

    def finish(self, error: BargeinError) -> None:
        """Let every request fail, because the session is over."""
        for answer in self._interrupts.values():
            answer.set_result(error)
        for rewound in self._rewinds.values():
            rewound.set_result(error)
        self._interrupts.clear()
        self._rewinds.clear()


def _refused(kind: type[RequestRefused], outcome: bp.ErrorEvent) -> RequestRefused:
    return kind(outcome.code, outcome.message, retryable=outcome.retryable)


def rejected(outcome: Outcome) -> InputRejected:
    """Return the error for an input that was refused."""
    assert isinstance(outcome, (bp.InputRejected, bp.ErrorEvent))
    if isinstance(outcome, bp.ErrorEvent):
        return InputRejected(outcome.code, outcome.message, retryable=outcome.retryable)
    row = bp.code_named(outcome.code)
    return InputRejected(
        outcome.code,
        row.reason if row is not None else "the server refused the input",
        retryable=row is not None and row.action is bp.Action.RETRY,
        retry_after_ms=outcome.retry_after_ms,
    )
