"""Channel over HTTP: Server-Sent Events down, one request per event up.

For networks that block WebSockets. Needs httpx2, which is imported on first use.
"""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import msgspec

from bargein_protocol import (
    JSON,
    ClientEvent,
    DecodeError,
    ServerEvent,
    SessionOpen,
    SessionOpened,
    UnknownEvent,
    code_of_close,
)
from bargein_protocol.errors import ABNORMAL, FLOODED, TOO_BIG

from .channel import MAX_FRAME_BYTES, OPEN_TIMEOUT_S, Channel, is_from_bargein, is_loopback, refused
from .errors import BargeinError, ChannelClosed, ServerViolation

if TYPE_CHECKING:
    import httpx2

INSTALL = 'pip install "bargein[sse]"'
_QUEUED = 64
_MAX_ANSWER_BYTES = 65_536


class _Close(msgspec.Struct):
    number: int


class EventStreamParser:
    """Parser of an event stream (HTML Living Standard, section 9.2.6).

    Its time and its memory are proportional to the bytes, however they arrive.
    """

    def __init__(self) -> None:
        self._line = bytearray()  # incomplete
        self._kind = ""
        self._data = bytearray()  # each line with its end
        self._at_start = True
        self._after_cr = False

    @property
    def size(self) -> int:
        """Bytes of the incomplete event."""
        return len(self._line) + len(self._data)

    def feed(self, chunk: bytes) -> Iterator[tuple[str, bytes]]:
        """Yield type and data of each complete event; ignore comments and ids."""
        chunk = self._without_start(chunk)
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a line end
            self._after_cr = False
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.splitlines()  # at \n, \r and \r\n
        rest = b"" if chunk.endswith((b"\n", b"\r")) else lines.pop()
        for line in lines:
            if self._line:
                line, self._line = bytes(self._line + line), bytearray()
            if line:
                self._field(line)
                continue
            if self._data:
                yield self._kind, bytes(self._data[:-1])
                self._data = bytearray()
            self._kind = ""
        self._line += rest

    def _without_start(self, chunk: bytes) -> bytes:
        """Return bytes without the stream's byte order mark; b"" at first."""
        if not self._at_start:
            return chunk
        self._line += chunk
        if len(self._line) < len(BOM_UTF8) and BOM_UTF8.startswith(self._line):
            return b""
        self._at_start = False
        chunk, self._line = bytes(self._line), bytearray()
        return chunk.removeprefix(BOM_UTF8)

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"event":
            self._kind = value.decode("utf-8", "replace")
        elif name == b"data":
            self._data += value
            self._data += b"\n"


def stream_url(url: str) -> str:
    """Return the URL of event streams for the URL of a socket."""
    parts = urlsplit(url)
    scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    path = parts.path.rstrip("/")
    return urlunsplit((scheme, parts.netloc, path if path.endswith("sessions") else f"{path}s", "", ""))


def is_available() -> bool:
    """Return whether httpx2 is installed."""
    try:
        import httpx2  # noqa: F401
    except ImportError:
        return False
    return True


class SseChannel:
    """A `Line` over HTTP.

    Args:
        url: Where event streams are.
        headers: Further headers of every request.
        instead: What to raise when there is no server of ours at the other end.

    Attributes:
        last_received_at: The event loop's time when the last byte arrived.
    """

    def __init__(self, url: str, headers: Mapping[str, str], instead: ChannelClosed | None = None) -> None:
        import httpx2

        self._loop = asyncio.get_running_loop()
        self.last_received_at = self._loop.time()
        self._url = url
        self._instead = instead
        self._client = httpx2.AsyncClient(
            headers=dict(headers),
            # `Watchdog` detects silence.
            timeout=httpx2.Timeout(OPEN_TIMEOUT_S, read=None),
            trust_env=not is_loopback(url),
        )
        self._events: asyncio.Queue[ServerEvent | UnknownEvent | BargeinError] = asyncio.Queue(_QUEUED)
        self._opened: asyncio.Future[SessionOpened | None] = self._loop.create_future()
        self._ended = False
        self._reading: asyncio.Task[None] | None = None

    async def send(self, event: ClientEvent) -> None:
        """Write an event; the first one, a `session.open`, opens the stream."""
        if isinstance(event, SessionOpen):
            self._reading = asyncio.create_task(self._read(event), name="bargein-event-stream")
            return
        opened = await asyncio.shield(self._opened)
        if opened is None:
            raise ChannelClosed(ABNORMAL, ABNORMAL.reason)
        ended = await self._post(f"{self._url}/{opened.session_id}/events", opened.token, event)
        if ended is not None:
            self._end(ended)
            raise ended

    async def receive(self) -> ServerEvent | UnknownEvent:
        """Return the next event."""
        event = await self._events.get()
        if isinstance(event, BargeinError):
            raise event
        return event

    def abort(self) -> None:
        """Close the channel immediately."""
        self._end(self._instead or ChannelClosed(ABNORMAL, ABNORMAL.reason))

    async def wait_closed(self) -> None:
        """Wait until the requests are closed."""
        if self._reading is not None:
            await asyncio.wait([self._reading])
        await self._client.aclose()

    async def _post(self, url: str, token: str, event: ClientEvent) -> ChannelClosed | None:
        headers = {"Content-Type": "application/json", "Bargein-Session-Token": token}
        try:
            async with self._client.stream(
                "POST", url, content=JSON.encode(event), headers=headers, timeout=OPEN_TIMEOUT_S
            ) as answer:
                status = answer.status_code
                await _skip(answer)
        except stream_errors() as error:
            return ChannelClosed(ABNORMAL, readable(error))
        if status == HTTPStatus.ACCEPTED:
            return None
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return ChannelClosed(TOO_BIG, TOO_BIG.reason, status)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return ChannelClosed(FLOODED, FLOODED.reason, status)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return refused(status)
        # Such as a token that a newer connection has replaced: the resume gives the reason.
        return ChannelClosed(ABNORMAL, f"the server answered with HTTP status {status}", status)

    async def _read(self, opening: SessionOpen) -> None:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Accept-Encoding": "identity",
        }
        if opening.auth is not None:
            # It may be a ticket, which is good once; the cookie of the answer is the credential from then on.
            headers["Bargein-Cookie"] = urlsplit(self._url).path.removesuffix("/v1/sessions") or "/"
        ended: BargeinError = ChannelClosed(ABNORMAL, ABNORMAL.reason)
        try:
            async with self._client.stream(
                "POST", self._url, content=JSON.encode(opening), headers=headers
            ) as response:
                kind = response.headers.get("content-type", "")
                if response.status_code == HTTPStatus.OK and kind.startswith("text/event-stream"):
                    ended = await self._forward(response)
                elif self._instead is not None and not is_from_bargein(response.headers):
                    ended = self._instead
                else:
                    ended = refused(response.status_code)
        except stream_errors() as error:
            ended = ChannelClosed(ABNORMAL, readable(error)) if self._instead is None else self._instead
        await self._events.put(ended)
        self._stop()

    async def _forward(self, response: httpx2.Response) -> BargeinError:
        """Queue events until the stream ends; return the reason."""
        self._instead = None
        reader = EventStreamParser()
        async for chunk in response.aiter_raw():  # not decompressed: a few bytes could become millions
            self.last_received_at = self._loop.time()
            for kind, data in reader.feed(chunk):
                if kind == "close":
                    return _closed(data)
                try:
                    event = JSON.decode_server(data)
                except DecodeError as error:
                    return ServerViolation(f"expected an event, got one that does not decode: {error}")
                if isinstance(event, SessionOpened) and not self._opened.done():
                    self._opened.set_result(event)
                await self._events.put(event)
            if reader.size > MAX_FRAME_BYTES:
                return ServerViolation(f"expected at most {MAX_FRAME_BYTES} bytes of an event, got more")
        return ChannelClosed(ABNORMAL, ABNORMAL.reason)

    def _end(self, ended: BargeinError) -> None:
        """Stop reading; drop the events that were read but not received."""
        if self._ended:
            return
        self._stop()
        if self._reading is not None:
            self._reading.cancel()
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait(ended)

    def _stop(self) -> None:
        self._ended = True
        if not self._opened.done():
            self._opened.set_result(None)


async def connect_sse_channel(
    url: str, headers: Mapping[str, str], instead: ChannelClosed | None = None
) -> Channel:
    """Return a channel over HTTP; sending the first event connects it.

    Raises:
        ChannelClosed: httpx2 is not installed.
    """
    if not is_available():
        raise ChannelClosed(ABNORMAL, f"event streams need httpx2: {INSTALL}", final=True)
    return SseChannel(stream_url(url), headers, instead)


async def _skip(answer: httpx2.Response) -> None:
    """Read a short body, to reuse the connection; nothing of a long one."""
    length = 0
    async for chunk in answer.aiter_raw():
        length += len(chunk)
        if length > _MAX_ANSWER_BYTES:
            return


def _closed(data: bytes) -> BargeinError:
    try:
        code = code_of_close(msgspec.json.decode(data, type=_Close).number)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):  # the last for deep nesting
        return ServerViolation("expected a code in the close event, got none")
    return ChannelClosed(code, code.reason)


def stream_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions of a failed HTTP request."""
    import httpx2

    return (httpx2.HTTPError, httpx2.InvalidURL, OSError)


def readable(error: Exception) -> str:
    """Return a readable reason for a failed request."""
    import httpx2

    if isinstance(error, httpx2.TimeoutException):
        return f"no answer within {OPEN_TIMEOUT_S:g} s"
    if isinstance(error, httpx2.ConnectError):
        return "no server is listening at this address"
    return ABNORMAL.reason
