"""WebSocket client with as few steps as possible."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

OPEN_TIMEOUT_S = 30.0
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING = 0, 1, 2, 8, 9
_FINAL = 0x80


class Refused(Exception):
    """No connection; the message is its kind, for the table of errors."""


class Line(asyncio.Protocol):
    """One connection.

    Args:
        handshake: Makes the request and checks the response.
        headers: Further headers of the request.
        on_message: Called with each message and the time at which it came (`perf_counter`).
        on_lost: Called once with the close code when the line is gone, also after `drop()`.

    Attributes:
        opened: Done when the handshake is.
        violation: What the server did wrong on the WebSocket, None while it did nothing.
    """

    def __init__(
        self,
        handshake: ClientProtocol,
        headers: Mapping[str, str],
        on_message: Callable[[bytes, float], None],
        on_lost: Callable[[int], None],
    ) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.violation: str | None = None
        self._handshake = handshake
        self._headers = headers
        self._on_message = on_message
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._pieces: list[bytes] = []
        self._code = 1006

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        self._transport = cast("asyncio.Transport", transport)
        request = self._handshake.connect()
        for name, value in self._headers.items():
            request.headers[name] = value
        self._handshake.send_request(request)
        self._transport.writelines(self._handshake.data_to_send())

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the owner."""
        if not self.opened.done():
            self.opened.set_exception(Refused("connect: closed during the handshake"))
        self._on_lost(self._code)

    def data_received(self, data: bytes) -> None:
        """Read the available messages; those of one read share one time."""
        now = perf_counter()
        buffer = self._rest + data if self._rest else data
        if not self.opened.done():
            head, end, buffer = buffer.partition(b"\r\n\r\n")
            if not end:
                self._rest = head
                return
            if not self._shake(head + end):
                return
        self._rest = self._read(buffer, now)

    def _shake(self, head: bytes) -> bool:
        self._handshake.receive_data(head)
        if self._handshake.state is State.OPEN:
            self.opened.set_result(None)
            return True
        # A refusal may have a body, which is not waited for; a 101 that is wrong has its reason.
        status = head[9:12].decode("ascii", "replace")
        why = type(self._handshake.handshake_exc).__name__ if status == "101" else status
        self.opened.set_exception(Refused(f"connect: refused with {why}"))
        self.drop()
        return False

    def _read(self, buffer: bytes, now: float) -> bytes:
        """Split whole frames (RFC 6455 section 5.2) off a buffer; return the rest."""
        at, size = 0, len(buffer)
        while size - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length >= 126:
                wide = 2 if length == 126 else 8
                start += wide
                if size < start:
                    break
                # A masked frame, which no server may send, shows as a length beyond 127.
                length = int.from_bytes(buffer[at + 2 : start], "big") if length <= 127 else -1
            end = start + length
            if end > size:
                break
            if length < 0 or buffer[at] & 0x70:
                self._violate("a frame that is masked or has reserved bits")
                return b""
            self._take(buffer[at], buffer[start:end], now)
            at = end
        return buffer[at:]

    def _take(self, first: int, payload: bytes, now: float) -> None:
        opcode = first & 0x0F
        if opcode in (_TEXT, _BINARY, _CONTINUATION):
            if first & _FINAL and not self._pieces:
                self._on_message(payload, now)
                return
            self._pieces.append(payload)
            if first & _FINAL:
                whole, self._pieces = b"".join(self._pieces), []
                self._on_message(whole, now)
        elif opcode == _PING:
            self._send(0x8A, payload)
        elif opcode == _CLOSE:
            self._code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
            self._send(0x88, payload[:2])
            self.close()

    def _violate(self, what: str) -> None:
        self.violation = what
        self.drop()

    def send(self, payload: bytes, *, text: bool) -> None:
        """Send a message."""
        self._send(_FINAL | (_TEXT if text else _BINARY), payload)

    def _send(self, first: int, payload: bytes) -> None:
        """Write a frame, masked with zeros: legal, and nothing to compute."""
        size = len(payload)
        if size < 126:
            head = bytes([first, 0x80 | size])
        elif size < 2**16:
            head = bytes([first, 0xFE]) + size.to_bytes(2, "big")
        else:
            head = bytes([first, 0xFF]) + size.to_bytes(8, "big")
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(head + bytes(4) + payload)

    def read(self, on: bool) -> None:
        """Read on, or stop reading, as a client does that cannot keep up."""
        if self._transport is None or self._transport.is_closing():
            return
        if on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def close(self) -> None:
        """Close after the queued output."""
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """Cut the connection without a word."""
        if self._transport is not None:
            self._transport.abort()


async def connect(
    url: str,
    headers: Mapping[str, str],
    subprotocol: str,
    on_message: Callable[[bytes, float], None],
    on_lost: Callable[[int], None],
) -> Line:
    """Open a line, without a subprotocol when that is empty.

    Raises:
        Refused: There is none, and `on_lost` is not called either, or is harmless.
    """
    uri = parse_uri(url)
    offered = [Subprotocol(subprotocol)] if subprotocol else None
    handshake = ClientProtocol(uri, subprotocols=offered, max_size=None)
    secure = ssl.create_default_context() if uri.secure else None
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            _, line = await asyncio.get_running_loop().create_connection(
                lambda: Line(handshake, headers, on_message, on_lost), uri.host, uri.port, ssl=secure
            )
            try:
                await line.opened
            except BaseException:
                line.drop()
                raise
    except TimeoutError:
        raise Refused("connect: timed out") from None
    except (OSError, InvalidHandshake) as error:
        raise Refused(f"connect: {type(error).__name__}") from None
    return line
