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

from .model_fields import objects

FIRST_BYTE_S, SILENCE_S = 600.0, 120.0
"""Time limits with an HTTP client that has none of its own."""
USAGE_S = 5.0
"""Seconds for the rest of a stream whose answer has ended: the count of tokens, and the end mark."""
MAX_BODY_BYTES = 16 * 1024 * 1024
"""Maximum length of a body without events that is read as one JSON object."""
END_MARK: dict[str, Any] = {}
"""Chunk that stands for `[DONE]`."""
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
    """Parser of an event stream; bytes in, decoded events and other texts out.

    Some servers leave out the blank line between events, or `data:` before them, so a line that is a whole
    JSON object is an event of its own.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._name = ""
        self._begun = False
        self._had_event = False
        self._other: list[str] = []
        self._other_bytes = 0

    def feed(self, piece: bytes) -> Iterator[Any]:
        """Yield the complete events, `[DONE]` and undecodable ones as text."""
        lines = (self._rest + piece).splitlines(keepends=True)
        # A last "\r" may be the first half of a line end.
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            yield from self._line(line.rstrip(b"\r\n"))

    def finish(self) -> Iterator[Any]:
        """Yield a last event without its blank line, or a whole body as one."""
        yield from self._line(self._rest.rstrip(b"\r\n"))
        yield from self._line(b"")
        body = "\n".join(self._other).strip()
        if not self._had_event and body.startswith(("{", "[")):
            yield _loaded(body, body)

    def _line(self, line: bytes) -> Iterator[Any]:
        if not self._begun:
            self._begun, line = True, line.removeprefix(_BOM)
        if not line:
            if self._data:
                data, self._data = "\n".join(self._data), []
                yield self._event(_loaded(data, data))
            self._name = ""
        elif line.startswith(b"data:"):
            text = line[5:].removeprefix(b" ").decode("utf-8", "replace")
            whole = None if self._data else _whole(text)
            if whole is None:
                self._data.append(text)
            else:
                yield self._event(whole)
        elif line.startswith(b"event:"):
            self._name = line[6:].strip().decode("utf-8", "replace")
        elif not line.startswith((b":", b"id:", b"retry:")):
            yield from self._bare_line(line)

    def _bare_line(self, line: bytes) -> Iterator[Any]:
        text = line.decode("utf-8", "replace")
        whole = None if self._other else _whole(text)
        if whole is not None:
            yield self._event(whole)
        elif not self._had_event and self._other_bytes < MAX_BODY_BYTES:
            self._other.append(text)
            self._other_bytes += len(line)

    def _event(self, event: Any) -> Any:
        self._had_event = True
        if self._name == "error" and isinstance(event, dict) and "error" not in event:
            return {"error": event}
        return event


def _whole(text: str) -> Any:
    """Return a line's object or end mark; None for a part of an event."""
    bare = text.strip()
    if bare.startswith("[DONE]"):
        return "[DONE]"
    return _loaded(bare, None) if bare.startswith("{") and bare.endswith("}") else None


def _loaded(text: str, other: Any) -> Any:
    """Return decoded JSON, control characters allowed, or else `other`."""
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return other


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

    Yields:
        A chunk, or `END_MARK` for the explicit end of the stream.

    Raises:
        StreamSilent: The server sent nothing for too long.
        ServerReported: The server reported an error.
        NotAStream: It is another kind of body.
        StreamCut: An event is not JSON.
    """
    kind = str(body.headers.get("content-type") or "text/event-stream").lower()
    if "html" in kind:
        raise NotAStream(f"expected a stream of events, got {kind[:80]}")
    is_stream, had_chunk = "event-stream" in kind, False
    events = _Events()
    async with aclosing(_Pieces(body.aiter_bytes(), first_byte_s, silence_s)) as pieces:
        async for piece in pieces:
            for event in events.feed(piece):
                if event == "[DONE]":
                    yield END_MARK
                    await _drain(pieces)
                    return
                if chunk := _chunk(event, is_stream):
                    had_chunk = True
                    pieces.note(chunk)
                    yield chunk
    for event in events.finish():
        if event == "[DONE]":
            yield END_MARK
            return
        if chunk := _chunk(event, is_stream):
            had_chunk = True
            yield chunk
    if not (is_stream or had_chunk):
        raise NotAStream(f"expected a stream of events, got {kind[:80]}")


class _Pieces:
    """Pieces of a body, each of which has to arrive in time."""

    def __init__(self, pieces: AsyncIterator[bytes], first_byte_s: float, silence_s: float) -> None:
        self._pieces = pieces
        self._limit_s = first_byte_s
        self._silence_s = silence_s
        self._until: float | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        end = asyncio.get_running_loop().time() + self._limit_s
        try:
            async with asyncio.timeout_at(end if self._until is None else min(end, self._until)):
                piece = await anext(self._pieces)
        except TimeoutError:
            if self._until is not None:  # the answer is complete, its stream is not
                raise StopAsyncIteration from None
            raise StreamSilent(f"no byte for {self._limit_s:g} s") from None
        self._limit_s = self._silence_s
        return piece

    def note(self, chunk: dict[str, Any]) -> None:
        """Bound the stream after the end of the answer: only usage may follow."""
        choices = objects(chunk.get("choices"))
        if any(choice.get("finish_reason") for choice in choices):
            self._until = asyncio.get_running_loop().time() + USAGE_S
        elif choices:
            self._until = None

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


def _chunk(event: Any, is_stream: bool) -> dict[str, Any]:
    """Return a decoded event, empty if it is no object.

    Raises:
        ServerReported: It is an error.
        NotAStream: It is another object, in a body that is no stream.
        StreamCut: It is not JSON.
    """
    if isinstance(event, str) and event.strip():
        raise StreamCut("an event is not JSON")
    if not isinstance(event, dict):
        return {}
    error = event.get("error") or next(
        (choice["error"] for choice in objects(event.get("choices")) if choice.get("error")), None
    )
    if not error and not event.get("choices"):
        says_error = "error" in (event.get("type"), event.get("object"))
        error = event if says_error or (not is_stream and _message_of(event)) else None
        if not error and not is_stream and "usage" not in event:
            raise NotAStream("expected a stream of events, got JSON without choices")
    if error:
        raise ServerReported(_message_of(error) or "no message")
    return event


def _message_of(error: Any) -> str:
    """Return the message of an error of any shape, empty if there is none."""
    if isinstance(error, dict):
        found = (_message_of(error.get(name)) for name in ("message", "msg", "detail", "error"))
        return next(filter(None, found), "")
    return error if isinstance(error, str) else ""
