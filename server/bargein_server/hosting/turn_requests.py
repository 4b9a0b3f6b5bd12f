"""Requests of a turn: aborted while they wait, closed while they are read.

This works for every library with the classes of httpx, and imports none of them. The wait for an answer is
in a cancel scope of its own, so that a request in flight is aborted from outside without a cancel of the
task. The answer's stream is wrapped in a `TurnBody`.

A stream is closed with `aclose()` of the response's stream. No other call drops the connection
immediately and returns its place in the pool, independently of the reading task. It is an ordinary
method, not a generator's, so it may be called from another task than the reader's; and it aborts instead
of draining. Neither is documented; tests/hosting/test_http_client.py pins both. Over HTTP/2 neither holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio

from ..agent import TurnClosed
from .upstream import TURN_STREAMS, TurnStreams

_ENDED = "the turn has ended"


class TurnBody:
    """Stream of a response that another task than its reader can close.

    Args:
        inner: The stream of the library.
    """

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._turn: TurnStreams | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def cut(self) -> bool:
        """Whether the turn that it belongs to has ended."""
        return self._turn is not None and self._turn.closed

    def received(self) -> None:
        """Note a chunk as a sign of life of the turn's model."""
        if self._turn is not None:
            self._turn.received(self)

    def join(self, turn: TurnStreams) -> None:
        """Assign the stream to `turn`; raise `TurnClosed` if that has ended."""
        if self._turn is not turn:
            turn.enter(self)
            if self._turn is not None:
                self._turn.leave(self)
            self._turn = turn

    def __aiter__(self) -> AsyncIterator[bytes]:
        # A stream that was opened before the turn and is read in it belongs to the turn from now on.
        turn = TURN_STREAMS.get()
        if turn is not None and self._closing is None:
            self.join(turn)
        return _Chunks(self, self._inner.__aiter__())

    def cancel(self) -> None:
        """Begin to close the stream."""
        # The close has a task of its own: a cancel of the caller during the close would drop the
        # connection but never return its place in the pool.
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
            self._closing.add_done_callback(_retrieve)

    async def _close(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            if self._turn is not None:
                self._turn.leave(self)

    async def aclose(self) -> None:
        """Close the stream."""
        self.cancel()
        assert self._closing is not None
        await asyncio.shield(self._closing)


class _Chunks:
    """Chunks of a body until its turn ends.

    A reader in a task that no cancel reaches gets `TurnClosed`. A network error might be retried, and the end
    of the stream might be taken for the end of the answer.
    """

    __slots__ = ("_body", "_chunks")

    def __init__(self, body: TurnBody, chunks: AsyncIterator[bytes]) -> None:
        self._body = body
        self._chunks = chunks

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._chunks.__anext__()
        except Exception:  # the end of the stream too
            if self._body.cut:
                raise TurnClosed(_ENDED) from None
            raise
        if self._body.cut:
            raise TurnClosed(_ENDED)
        self._body.received()
        return chunk


def _retrieve(closing: asyncio.Task[None]) -> None:
    # The error of a close concerns its caller alone; after an interrupt there is none.
    if not closing.cancelled():
        closing.exception()


def body_type(stream: type) -> type[TurnBody]:
    """Return the `TurnBody` for a library; `stream` is its `AsyncByteStream`."""
    return type("TurnBody", (TurnBody, stream), {})


async def send_in_turn(turn: TurnStreams, send: Callable[[], Awaitable[Any]], body: type[TurnBody]) -> Any:
    """Send a request of a turn; its response belongs to the turn.

    Args:
        turn: The streams of the turn.
        send: Sends the request and returns the response, whose body is not read yet.
        body: The type for the response's stream.

    Raises:
        TurnClosed: The turn has ended, before the request or while it waited for its answer.
            A request made after the end opens no connection.
    """
    with anyio.CancelScope() as flight:
        turn.enter(flight)
        try:
            response = await send()
        finally:
            turn.leave(flight)
        stream = response.stream = body(response.stream)
        try:
            stream.join(turn)
        except TurnClosed:
            stream.cancel()
            raise
        return response
    # The scope swallowed its own cancel: the turn was closed while the request was in flight.
    raise TurnClosed(_ENDED)
