"""Completion without a turn, for tests of what chunks become."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from itertools import count
from typing import Any, cast

from bargein_protocol import CallId
from bargein_server.agent import Turn
from bargein_server.agents.completion import Completion


class _Tools:
    def __init__(self) -> None:
        self._ids = count()

    def claim(self, wanted: str = "") -> CallId:
        return CallId(f"c{next(self._ids)}")


class StubTurn:
    """Turn that hands out ids of calls and counts tokens."""

    def __init__(self) -> None:
        self.tools = _Tools()
        self.usage = (0, 0)

    def add_usage(self, input_tokens: int, output_tokens: int) -> None:
        """Count tokens."""
        self.usage = (self.usage[0] + input_tokens, self.usage[1] + output_tokens)


def completion(**options: Any) -> Completion:
    """Return an empty completion."""
    return Completion(cast(Turn, StubTurn()), **options)


def chunk(finish_reason: Any = None, **delta: Any) -> dict[str, Any]:
    """Return a chunk with one delta."""
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def outputs_of(
    chunks: Iterable[Mapping[str, Any]], result: Completion | None = None, **options: Any
) -> list[Any]:
    """Read chunks to the end of their stream; return the outputs."""
    result = result or completion(**options)
    outputs = [output for item in chunks for output in result.read(item)]
    return [*outputs, *result.finish()]


class StubBody:
    """Response whose bytes are given in pieces."""

    def __init__(self, *pieces: bytes, kind: str | None = "text/event-stream") -> None:
        self.headers = {} if kind is None else {"content-type": kind}
        self._pieces = pieces

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        for piece in self._pieces:
            yield piece
