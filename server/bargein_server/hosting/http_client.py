"""HTTP clients of agents, whose requests end with their turn.

Every request goes through `AsyncClient.send`, so only that method is overridden in `TurnClient`; proxies,
limits, mounts and TLS are configured as in any other client. See `turn_requests` for the way in which a
request ends. Over HTTP/2 a stream cannot be closed like that, so HTTP/2 stays off.

This module imports httpx2, which the extra `http` installs, so other modules import it late.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import cache, partial
from typing import Any, Self
from weakref import WeakKeyDictionary

import httpx2

from ..settings import Settings
from .turn_requests import body_type, send_in_turn
from .upstream import FIRST_BYTE_S, SERVER, SILENCE_S, TURN_STREAMS

CONNECT_S = 5.0
"""Default of `model_connect_s`: a connection is made in seconds or not."""

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

_BODY = body_type(httpx2.AsyncByteStream)


class TurnClient(httpx2.AsyncClient):
    """HTTP client whose requests and streams end with their turn.

    Outside a turn it is a plain `httpx2.AsyncClient`. A stream that was opened outside becomes the turn's
    when it is first read in one.

    Attributes:
        first_byte_s: Seconds that an agent waits for the first byte of a model's answer.
        silence_s: Seconds without a byte within an answer after which the agent should give it up.
    """

    ends_with_turn = True  # see `model_calls`
    first_byte_s: float = FIRST_BYTE_S
    silence_s: float = SILENCE_S

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        """Send a request, as `httpx2.AsyncClient.send` does.

        Raises:
            TurnClosed: The turn has ended, before the request or while it waited for its answer.
                A request made after the end opens no connection.
        """
        turn = TURN_STREAMS.get()
        response: httpx2.Response
        if turn is None:
            response = await super().send(request, stream=True, **options)
            response.stream = _BODY(response.stream)  # type: ignore[assignment]
        else:
            send = partial(super().send, request, stream=True, **options)
            response = await send_in_turn(turn, send, _BODY)
        if not stream:
            # The body is read here and not in `super().send`, so that its close has a task of its own too.
            await response.aread()
        return response


class ModuleClient(httpx2.AsyncClient):
    """HTTP client without connections: requests use their server's client.

    Outside a server each event loop has one client for all instances. Closing an instance closes that
    client, and has no effect in a server; the next request works in both cases.
    """

    ends_with_turn = True

    def __init__(self) -> None:
        # With a transport of its own, a client makes no TLS context, which would take 20 ms.
        super().__init__(
            transport=_Finder(), timeout=_timeout(Settings().model_wait_s), follow_redirects=True
        )

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close the client."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of this event loop; without effect in a server."""
        if SERVER.get() is None:
            client = _OUTSIDE.pop(asyncio.get_running_loop(), None)
            if client is not None:
                await client.aclose()


class _Finder(httpx2.AsyncBaseTransport):
    """Transport of a `ModuleClient`."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        loop, server = asyncio.get_running_loop(), SERVER.get()
        if server is not None and server.loop is loop:
            client = server.http_client()
        elif (known := _OUTSIDE.get(loop)) is not None:
            client = known
        else:
            client = _OUTSIDE[loop] = create_http_client()
        return await client.send(request, stream=True, auth=None, follow_redirects=False)


_OUTSIDE: WeakKeyDictionary[asyncio.AbstractEventLoop, TurnClient] = WeakKeyDictionary()
"""Clients for requests outside servers: connections belong to their event loop."""


@cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS context of all clients; it takes 20 ms to read."""
    return httpx2.create_ssl_context()


def _timeout(
    wait_s: float, connect_s: float = CONNECT_S, byte_s: float = max(FIRST_BYTE_S, SILENCE_S)
) -> httpx2.Timeout:
    return httpx2.Timeout(byte_s, connect=connect_s, pool=wait_s)


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
        verify=tls_context(),
        http2=False,
        limits=limits,
        timeout=_timeout(wait_s, connect_s, max(first_byte_s, silence_s)),
        follow_redirects=True,
        mounts={f"all://{host}": None for host in _LOOPBACK},
    )
    client.first_byte_s, client.silence_s = first_byte_s, silence_s
    return client
