"""Chunks of a completion, read from the bytes of a model's event stream.

The bytes are read here and not by the SDK, for two reasons: only bytes show whether a model that thinks
for minutes is alive (comments and empty deltas count), and the SDK's classes assume shapes that not
every server sends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, suppress
from typing import Any, Protocol, Self

FIRST_BYTE_S, SILENCE_S = 600.0, 120.0
"""Time limits with an HTTP client that has none of its own."""
_DRAIN_S = 0.1
_BOM = b"\xef\xbb\xbf"


class StreamCut(Exception):
    """A stream ended before the model was done, or is none."""


class NotAStream(StreamCut):
    """The answer is something else than a completion, as at a wrong address."""


class StreamSilent(StreamCut):
    """A stream was silent for too long."""


class ServerReported(StreamCut):
    """The server reported an error in its stream; the message is its own."""


class Body(Protocol):
    """Response of an HTTP client, open."""

    @property
    def headers(self) -> Any:
        """Headers by name."""
        ...

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Iterate over the body."""
        ...


class _Events:
    """Parser of an event stream; bytes in, the data of events out."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._begun = False

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yield the data of the events that are complete."""
        lines = (self._rest + piece).splitlines(keepends=True)
        # A last "\r" may be the first half of a line end.
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            yield from self._line(line.rstrip(b"\r\n"))

    def finish(self) -> Iterator[str]:
        """Yield the data of a last event without its blank line."""
        yield from self._line(self._rest.rstrip(b"\r\n"))
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[str]:
        if not self._begun:
            self._begun, line = True, line.removeprefix(_BOM)
        if not line:
            if self._data:
                data, self._data = "\n".join(self._data), []
                yield data
        elif line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" ").decode("utf-8", "replace"))


async def read_chunks(
    body: Body, first_byte_s: float, silence_s: float
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the chunks of a completion.

    A server that answers with one JSON object instead of a stream has one chunk. Events that are no
    object are left out.

    Args:
        body: The response.
        first_byte_s: Seconds until the first byte.
        silence_s: Seconds without a byte after it.

    Raises:
        StreamSilent: The server sent nothing for too long.
        ServerReported: The server reported an error.
        NotAStream: It is another kind of body.
        StreamCut: An event is not JSON.
    """
    kind = str(body.headers.get("content-type") or "text/event-stream").lower()
    if "event-stream" not in kind and "json" not in kind:
        raise NotAStream(f"expected a stream of events, got {kind[:80]}")
    events = _Events()
    async with aclosing(_Pieces(body.aiter_bytes(), first_byte_s, silence_s)) as pieces:
        if "event-stream" not in kind:
            chunk = _decoded(b"".join([piece async for piece in pieces]).decode("utf-8", "replace"))
            if not chunk.get("choices"):
                raise NotAStream("expected a stream of events, got JSON without choices")
            yield chunk
            return
        async for piece in pieces:
            for data in events.feed(piece):
                if data.startswith("[DONE]"):
                    await _drain(pieces)
                    return
                if data.strip() and (chunk := _decoded(data)):
                    yield chunk
    for data in events.finish():
        if data.strip() and not data.startswith("[DONE]") and (chunk := _decoded(data)):
            yield chunk


class _Pieces:
    """Pieces of a body, each of which has to arrive in time."""

    def __init__(self, pieces: AsyncIterator[bytes], first_byte_s: float, silence_s: float) -> None:
        self._pieces = pieces
        self._limit_s = first_byte_s
        self._silence_s = silence_s

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            async with asyncio.timeout(self._limit_s):
                piece = await anext(self._pieces)
        except TimeoutError:
            raise StreamSilent(f"no byte for {self._limit_s:g} s") from None
        self._limit_s = self._silence_s
        return piece

    async def aclose(self) -> None:
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()


async def _drain(pieces: _Pieces) -> None:
    """Read the end of a body, so that its connection can be used again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for _ in pieces:
                pass


def _decoded(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        raise StreamCut("an event is not JSON") from None
    if not isinstance(chunk, dict):
        return {}
    if error := chunk.get("error"):
        message = error.get("message") if isinstance(error, dict) else error
        raise ServerReported(message if isinstance(message, str) else "no message")
    return chunk
