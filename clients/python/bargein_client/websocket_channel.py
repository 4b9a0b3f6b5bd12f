"""Channel over a WebSocket: events for frames, codes for exceptions."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)
from websockets.typing import Subprotocol

from bargein_protocol import (
    CODECS,
    JSON,
    ClientEvent,
    Code,
    Codec,
    DecodeError,
    ServerEvent,
    UnknownEvent,
    code_of_close,
)
from bargein_protocol.errors import ABNORMAL

from .channel import (
    CLOSE_TIMEOUT_S,
    MAX_FRAME_BYTES,
    OPEN_TIMEOUT_S,
    Channel,
    is_from_bargein,
    is_loopback,
    refused,
)
from .errors import ChannelClosed, ServerViolation

_NOT_BLOCKED = (401, 407, 429)
"""A proxy that asks for a credential or for patience would do so over plain HTTP too."""


class _TimedConnection(ClientConnection):
    """Connection that records when the last byte arrived.

    Every byte counts as a sign of life, such as a ping or a part of a large frame.
    """

    last_received_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.last_received_at = self.loop.time()
        super().data_received(data)


class WebSocketChannel:
    """Channel over the websockets library."""

    def __init__(self, websocket: _TimedConnection) -> None:
        self._websocket = websocket
        self._codec = CODECS.get(websocket.subprotocol or "", JSON)

    @property
    def last_received_at(self) -> float:
        """The event loop's time when the last byte arrived."""
        return self._websocket.last_received_at

    async def send(self, event: ClientEvent) -> None:
        """Write an event; waits while the channel is full."""
        try:
            await self._websocket.send(self._codec.encode(event), text=self._codec.text)
        except ConnectionClosed as closed:
            raise _ended(closed) from None

    async def receive(self) -> ServerEvent | UnknownEvent:
        """Return the next event."""
        try:
            frame = await self._websocket.recv(decode=False)
        except ConnectionClosed as closed:
            raise _ended(closed) from None
        try:
            return self._codec.decode_server(frame)
        except DecodeError as error:
            raise ServerViolation(f"expected an event, got one that does not decode: {error}") from None

    def abort(self) -> None:
        """Close the channel immediately."""
        self._websocket.transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed."""
        await self._websocket.wait_closed()


async def connect_channel(url: str, headers: Mapping[str, str], codec: Codec = JSON) -> Channel:
    """Open a WebSocket channel.

    Args:
        url: The server's WebSocket URL.
        headers: Additional headers of the handshake.
        codec: Preferred codec; a server without it uses JSON.

    Raises:
        ChannelClosed: The connection failed; the code's action is `retry` or `stop`.
    """
    options: dict[str, Any] = {"proxy": None} if is_loopback(url) else {}
    try:
        websocket = await open_websocket(
            url,
            subprotocols=[Subprotocol(name) for name in dict.fromkeys((codec.subprotocol, JSON.subprotocol))],
            compression=None,
            additional_headers=dict(headers),
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            # `Watchdog` detects silence. A pong that is late under load would end a connection
            # that works.
            ping_interval=None,
            max_size=MAX_FRAME_BYTES,
            create_connection=_TimedConnection,
            **options,
        )
    except (
        InvalidProxy,
        InvalidStatus,
        InvalidURI,
        ProxyError,
        ImportError,
        TimeoutError,
        ValueError,
    ) as error:
        raise _not_made(error) from None
    except (OSError, WebSocketException) as error:
        raise _not_made(error) from error
    assert isinstance(websocket, _TimedConnection)
    return WebSocketChannel(websocket)


def _ended(closed: ConnectionClosed) -> ChannelClosed:
    code: Code = code_of_close(closed.rcvd.code) if closed.rcvd is not None else ABNORMAL
    return ChannelClosed(code, code.reason)


def _not_made(error: Exception) -> ChannelClosed:
    """Return the error for a failed attempt to connect."""
    if isinstance(error, ssl.SSLCertVerificationError):  # also a ValueError
        why = f"the server's certificate is not trusted: {error.verify_message}"
        return ChannelClosed(ABNORMAL, why, final=True)
    if isinstance(error, (InvalidProxy, ValueError)):
        return ChannelClosed(ABNORMAL, "the proxy in the environment is not a valid URL", final=True)
    if isinstance(error, InvalidURI):
        why = f"the server redirects to {error.uri}; connect to that address"
        return ChannelClosed(ABNORMAL, why, final=True)
    if isinstance(error, ImportError):
        return ChannelClosed(ABNORMAL, "a SOCKS proxy needs the package python-socks", final=True)
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        blocked = status not in _NOT_BLOCKED and not is_from_bargein(error.response.headers)
        return refused(status, blocked=blocked)
    if isinstance(error, TimeoutError):
        return ChannelClosed(ABNORMAL, f"no answer within {OPEN_TIMEOUT_S:g} s", blocked=True)
    if isinstance(error, ProxyError):
        return ChannelClosed(ABNORMAL, "the proxy in the environment refused the connection", blocked=True)
    # The connection was accepted and then cut: a proxy probably refused the upgrade.
    blocked = isinstance(error, (ConnectionResetError, ConnectionAbortedError, InvalidHandshake))
    return ChannelClosed(ABNORMAL, _plain(error), blocked=blocked)


def _plain(error: Exception) -> str:
    """Return a readable reason for a failed attempt."""
    if isinstance(error, ConnectionRefusedError):
        return "no server is listening at this address"
    if isinstance(error, ssl.SSLError):
        reason = error.reason.lower().replace("_", " ") if error.reason else "unknown reason"
        return f"the TLS handshake failed: {reason}"
    if isinstance(error, OSError):
        # asyncio joins the errors of several addresses into one text without an errno.
        text = error.strerror or str(error)
        return "no server is listening at this address" if "Connect call failed" in text else text
    return "the server did not answer with a WebSocket handshake"
