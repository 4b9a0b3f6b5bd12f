"""Choice of the transport, and the fallback to event streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from bargein_protocol import JSON, MESSAGEPACK, Codec

from .channel import Channel, is_loopback
from .errors import ChannelClosed, ConnectError
from .sse_channel import connect_sse_channel, is_available
from .websocket_channel import connect_channel

Transport = Literal["auto", "websocket", "sse"]
CodecName = Literal["json", "msgpack"]

_CODECS: dict[CodecName, Codec] = {"json": JSON, "msgpack": MESSAGEPACK}

SESSION_PATH = "/v1/session"
NOT_A_URL = "this is not a WebSocket URL, such as ws://localhost:8000"


def session_url(url: str) -> str:
    """Return the URL of the WebSocket endpoint for a server's URL.

    http becomes ws, https becomes wss, and an empty path becomes `/v1/session`. Without a scheme, such as
    `localhost:8000`, the scheme is ws for this machine and wss for any other host, so that no token leaves
    the machine unencrypted unasked; the path is then the one under which a proxy serves the application.

    Raises:
        ConnectError: The text is not a URL of a server.
    """
    try:
        parts = urlsplit(url if "://" in url or url.startswith("/") else _completed(url))
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        path = SESSION_PATH if parts.path in ("", "/") else parts.path
        full = urlunsplit((scheme, parts.netloc, path, parts.query, ""))
        parse_uri(full)
    except (InvalidURI, ValueError):
        raise ConnectError(url, NOT_A_URL) from None
    return full


def _completed(url: str) -> str:
    """Return the URL for a host and the path under which a proxy serves it."""
    host, _, path = url.partition("/")
    prefix = f"/{path}".rstrip("/").removesuffix(SESSION_PATH)
    scheme = "ws" if is_loopback(f"//{host}") else "wss"
    return f"{scheme}://{host}{prefix}{SESSION_PATH}"


class ChannelConnector:
    """Opens the channels of one session.

    Args:
        url: URL of the WebSocket endpoint; event streams are served beside it.
        headers: Additional headers of every request.
        transport: `websocket`, `sse`, or `auto`: WebSockets, and event streams where the network blocks
            WebSockets. A refusal by the server itself does not cause the fallback.
        codec: Codec of WebSocket frames.

    Attributes:
        streams: Whether channels are event streams by now.
    """

    def __init__(self, url: str, headers: Mapping[str, str], transport: Transport, codec: CodecName) -> None:
        self.streams = transport == "sse"
        self._url = url
        self._headers = dict(headers)
        self._may_fall_back = transport == "auto"
        self._codec = _CODECS[codec]

    async def __call__(self) -> Channel:
        """Open a channel.

        Raises:
            ChannelClosed: The connection failed.
        """
        if self.streams:
            return await connect_sse_channel(self._url, self._headers)
        try:
            channel = await connect_channel(self._url, self._headers, self._codec)
        except ChannelClosed as closed:
            if not (closed.blocked and self._may_fall_back and is_available()):
                raise
            self.streams = True
            return await connect_sse_channel(self._url, self._headers, instead=closed)
        self._may_fall_back = False  # WebSockets work here, so later failures have another cause
        return channel
