"""One connection over a WebSocket: events instead of frames, codes of the table instead of exceptions."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    ProxyError,
)
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

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
from bargein_protocol.errors import ABNORMAL, FORBIDDEN, OVERLOADED, UNAUTHORIZED

from .errors import LineEnded, ServerViolation

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""The largest frame that is read: a snapshot holds whole turns, and a text of 2**20 characters may
take six bytes for each."""
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0

NOT_A_URL = "this is not a WebSocket URL"
NOT_FOUND = 404
_NO_BLOCK = (401, 407, 429)
"""Who asks for a credential or for patience would ask for it over HTTP, too."""

_STATUS_CODES = {401: UNAUTHORIZED, 403: FORBIDDEN, 429: OVERLOADED, 503: OVERLOADED}


class Line(Protocol):
    """One connection to a server."""

    @property
    def heard_at(self) -> float:
        """The loop's time when the last byte came."""
        ...

    async def send(self, event: ClientEvent) -> None:
        """Write an event; waits while the line is full. Raises `LineEnded`."""
        ...

    async def receive(self) -> ServerEvent | UnknownEvent:
        """Return the next event. Raises `LineEnded` and `ServerViolation`."""
        ...

    def abort(self) -> None:
        """Cut the line now; `receive` raises `LineEnded`."""
        ...

    async def wait_gone(self) -> None:
        """Wait until nothing is left of a line that ended or was cut."""
        ...


Dial = Callable[[], Awaitable[Line]]


class _HeardConnection(ClientConnection):
    """A connection that knows when it last heard anything.

    Any byte counts as life: a ping, or a piece of a large frame, proves as much as an event does.
    """

    heard_at = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard_at = self.loop.time()
        super().data_received(data)


class WebSocketLine:
    """A `Line` over the websockets library."""

    def __init__(self, websocket: _HeardConnection) -> None:
        self._websocket = websocket
        self._codec = CODECS.get(websocket.subprotocol or "", JSON)

    @property
    def heard_at(self) -> float:
        """The loop's time when the last byte came."""
        return self._websocket.heard_at

    async def send(self, event: ClientEvent) -> None:
        """Write an event; waits while the line is full."""
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
        """Cut the line now."""
        self._websocket.transport.abort()

    async def wait_gone(self) -> None:
        """Wait until the socket is closed."""
        await self._websocket.wait_closed()


async def dial(url: str, headers: Mapping[str, str], codec: Codec = JSON) -> Line:
    """Make a connection.

    Args:
        url: Where to.
        headers: Further headers of the handshake.
        codec: What is preferred; a server that does not know it gets JSON.

    Raises:
        LineEnded: It could not be made; the code says whether to try again.
    """
    try:
        parse_uri(url)
    except (InvalidURI, ValueError):
        raise LineEnded(ABNORMAL, NOT_A_URL, final=True) from None
    options: dict[str, Any] = {"proxy": None} if is_loopback(url) else {}
    try:
        websocket = await open_websocket(
            url,
            subprotocols=[Subprotocol(name) for name in dict.fromkeys((codec.subprotocol, JSON.subprotocol))],
            compression=None,
            additional_headers=dict(headers),
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            # Silence is judged by what is heard, see `Watchdog`: a pong that is late under load
            # would cost a connection that works.
            ping_interval=None,
            max_size=MAX_FRAME_BYTES,
            create_connection=_HeardConnection,
            **options,
        )
    except (InvalidProxy, InvalidStatus, ProxyError, ImportError, TimeoutError, ValueError) as error:
        raise _not_made(error) from None
    except (OSError, InvalidHandshake) as error:
        raise _not_made(error) from error
    assert isinstance(websocket, _HeardConnection)
    return WebSocketLine(websocket)


def refused(status: int, *, blocked: bool = False) -> LineEnded:
    """Return what an HTTP status means in place of a connection."""
    code = _STATUS_CODES.get(status, ABNORMAL)
    why = code.reason if status in _STATUS_CODES else f"the server answered with HTTP status {status}"
    if status == NOT_FOUND:
        why = "the server serves no sessions at this path"
    return LineEnded(code, why, status, final=code is ABNORMAL and status < 500, blocked=blocked)


def is_ours(headers: Mapping[str, str]) -> bool:
    """Whether an answer came from a server of ours, and not from something on the way."""
    return "bargein-protocol" in headers


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine; a proxy from the environment cannot reach that."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Watchdog:
    """Cuts a line that is silent for too long.

    Args:
        line: The line.
        opened: Whether `session.opened` came; it must within `OPEN_TIMEOUT_S`.
        silence_s: How long it may be silent after that, in seconds; 0 for ever.
    """

    def __init__(self, line: Line, opened: Callable[[], bool], silence_s: Callable[[], float]) -> None:
        self._line = line
        self._opened = opened
        self._silence_s = silence_s
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._timer = self._loop.call_later(OPEN_TIMEOUT_S, self._check)

    def reset(self) -> None:
        """Look again: what may be expected of the line has changed."""
        self._timer.cancel()
        self._check()

    def stop(self) -> None:
        """Stop watching."""
        self._timer.cancel()

    def _check(self) -> None:
        if self._opened():
            silence = self._silence_s()
            if not silence:
                return
            due = self._line.heard_at + silence
        else:
            due = self._began + OPEN_TIMEOUT_S
        if self._loop.time() >= due:
            self._line.abort()
        else:
            self._timer = self._loop.call_at(due, self._check)


def _ended(closed: ConnectionClosed) -> LineEnded:
    code: Code = code_of_close(closed.rcvd.code) if closed.rcvd is not None else ABNORMAL
    return LineEnded(code, code.reason)


def _not_made(error: Exception) -> LineEnded:
    """Return what a failed attempt means to the caller."""
    if isinstance(error, ssl.SSLCertVerificationError):  # a ValueError, too
        why = f"the server's certificate is not trusted: {error.verify_message}"
        return LineEnded(ABNORMAL, why, final=True)
    if isinstance(error, (InvalidProxy, ValueError)):
        return LineEnded(ABNORMAL, "the proxy in the environment is no URL of a proxy", final=True)
    if isinstance(error, ImportError):
        return LineEnded(ABNORMAL, "a SOCKS proxy needs the package python-socks", final=True)
    if isinstance(error, InvalidStatus):
        status = error.response.status_code
        blocked = status not in _NO_BLOCK and not is_ours(error.response.headers)
        return refused(status, blocked=blocked)
    if isinstance(error, TimeoutError):
        return LineEnded(ABNORMAL, f"no answer within {OPEN_TIMEOUT_S:g} s", blocked=True)
    if isinstance(error, ProxyError):
        return LineEnded(ABNORMAL, "the proxy in the environment does not let us through", blocked=True)
    # A connection that is cut in the handshake was there: something did not like the upgrade.
    blocked = isinstance(error, (ConnectionResetError, ConnectionAbortedError, InvalidHandshake))
    return LineEnded(ABNORMAL, _plain(error), blocked=blocked)


def _plain(error: Exception) -> str:
    """Say what a failed attempt means to people."""
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, ssl.SSLError):
        what = error.reason.lower().replace("_", " ") if error.reason else "the handshake failed"
        return f"the server does not speak TLS as we do: {what}"
    if isinstance(error, OSError):
        # asyncio joins the errors of several addresses into one text without an errno.
        text = error.strerror or str(error)
        return "nothing listens there" if "Connect call failed" in text else text
    return "the answer is not that of a WebSocket server"
