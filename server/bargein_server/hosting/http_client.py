"""HTTP client of agents: an `httpx2.AsyncClient` that lists open streams.

Every request goes through `AsyncClient.send`, so only that method is overridden here; proxies, limits,
mounts and TLS are configured as in any other client. The wait for an answer is in a cancel scope of its
own, so that a request in flight is aborted from outside without a cancel of the task. The answer's stream
is wrapped in a `_Body`.

A stream is closed with `aclose()` of the response's stream. No other call drops the connection
immediately and returns its place in the pool, independently of the reading task. It is an ordinary
method, not a generator's, so it may be called from another task than the reader's; and it aborts instead
of draining. Neither is documented; tests/hosting/test_http_client.py pins both. Over HTTP/2 neither holds,
so HTTP/2 stays off.

This module imports httpx2, which the extra `openai` installs, so other modules import it late.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self

import anyio
import httpx2

from ..agent import TurnClosed
from .upstream import FIRST_BYTE_S, SILENCE_S, TURN_STREAMS, TurnStreams

CONNECT_S = 5.0
"""Default of `model_connect_s`: a connection is made in seconds or not."""

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class TurnClient(httpx2.AsyncClient):
    """HTTP client whose requests and streams end with their turn.

    Outside a turn it is a plain `httpx2.AsyncClient`. A stream that was opened outside becomes the turn's
    when it is first read in one.

    Attributes:
        first_byte_s: Seconds that an agent waits for the first byte of a model's answer.
        silence_s: Seconds without a byte within an answer after which the agent should give it up.
    """

    first_byte_s: float = FIRST_BYTE_S
    silence_s: float = SILENCE_S

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request, as `httpx2.AsyncClient.send` does.

        Raises:
            TurnClosed: The turn has ended, before the request or while it waited for its answer.
                A request made after the end opens no connection.
        """
        turn = TURN_STREAMS.get()
        if turn is None:
            response = await super().send(request, stream=True, **options)
            _Body.wrap(response)
        else:
            response = await self._send_in(turn, request, **options)
        if not stream:
            # The body is read here and not in `super().send`, so that its close has a task of its own too.
            await response.aread()
        return response

    async def _send_in(self, turn: TurnStreams, request: httpx2.Request, **options: Any) -> httpx2.Response:
        with anyio.CancelScope() as flight:
            turn.enter(flight)
            try:
                response = await super().send(request, stream=True, **options)
            finally:
                turn.leave(flight)
            body = _Body.wrap(response)
            try:
                body.join(turn)
            except TurnClosed:
                body.cancel()
                raise
            return response
        # The scope swallowed its own cancel: the turn was closed while the request was in flight.
        raise TurnClosed("the turn has ended")


class _Body(httpx2.AsyncByteStream):
    """Stream of a response that another task than its reader can close."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner
        self._turn: TurnStreams | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    def wrap(cls, response: httpx2.Response) -> _Body:
        inner = response.stream
        assert isinstance(inner, httpx2.AsyncByteStream), "an asynchronous client has asynchronous streams"
        response.stream = body = cls(inner)
        return body

    def join(self, turn: TurnStreams) -> None:
        """Assign the stream to `turn`; raise `TurnClosed` if that has ended."""
        if self._turn is not turn:
            turn.enter(self)
            if self._turn is not None:
                self._turn.leave(self)
            self._turn = turn

    def __aiter__(self) -> AsyncIterator[bytes]:
        # A stream that was opened before the turn and is read in it belongs to the turn from now on. The
        # iterator is no generator: one that is left suspended would have to be closed in its own task.
        turn = TURN_STREAMS.get()
        if turn is not None and self._closing is None:
            self.join(turn)
        chunks = self._inner.__aiter__()
        return chunks if self._turn is None else _Chunks(chunks, self, self._turn)

    def cancel(self) -> None:
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
        self.cancel()
        assert self._closing is not None
        await asyncio.shield(self._closing)


class _Chunks:
    """Chunks of a body; each is noted as a sign of life of the turn's model."""

    __slots__ = ("_body", "_chunks", "_turn")

    def __init__(self, chunks: AsyncIterator[bytes], body: _Body, turn: TurnStreams) -> None:
        self._chunks = chunks
        self._body = body
        self._turn = turn

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._chunks.__anext__()
        self._turn.received(self._body)
        return chunk


def _retrieve(closing: asyncio.Task[None]) -> None:
    # The error of a close concerns its caller alone; after an interrupt there is none.
    if not closing.cancelled():
        closing.exception()


def create_http_client(
    max_connections: int = 50,
    max_keepalive: int = 50,
    wait_s: float = 25.0,
    *,
    connect_s: float = CONNECT_S,
    first_byte_s: float = FIRST_BYTE_S,
    silence_s: float = SILENCE_S,
) -> TurnClient:
    """Return the client for `turn.http_client()`; close it with `aclose()`.

    It uses HTTP/1.1 only. Proxies come from the environment as for any other client, except that loopback
    addresses are always reached directly.

    Args:
        max_connections: Maximum number of connections, busy and idle. A further request waits.
        max_keepalive: Maximum number of idle connections that are kept.
        wait_s: Seconds that a request waits for a connection before it fails with `httpx2.PoolTimeout`.
        connect_s: Seconds to connect before it fails with `httpx2.ConnectTimeout`.
        first_byte_s: Seconds without a byte before it fails with `httpx2.ReadTimeout`.
        silence_s: The client's `silence_s`.
    """
    limits = httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_keepalive)
    client = TurnClient(
        http2=False,
        limits=limits,
        timeout=httpx2.Timeout(max(first_byte_s, silence_s), connect=connect_s, pool=wait_s),
        follow_redirects=True,
        mounts={f"all://{host}": None for host in _LOOPBACK},
    )
    client.first_byte_s, client.silence_s = first_byte_s, silence_s
    return client
