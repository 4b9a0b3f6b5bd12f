"""Least possible time of an interrupt in Python.

The server sends prepared bytes from the callback that read the interrupt: no ASGI, no complete parser of
RFC 6455, no task that wakes up to read. The remaining time belongs to the kernel, the event loop and the load
generator, and no server is faster. The row shows the part of an aim that is left for decoding, fence,
numbers, log and answers.
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from time import monotonic
from typing import cast

import uvloop
from websockets.utils import accept_key

try:
    from websockets.speedups import apply_mask
except ImportError:  # where there is no wheel of it
    from websockets.utils import apply_mask

from bargein_server.transport.wires import TEXT, header

from .floor import ENDS, RATE, TOKEN_FRAME

_TEXT, _HEADER_BYTES = 0x80 | TEXT, 6
_CLOSE, _CLOSED = 0x88, b"\x88\x02\x03\xe8"
_ACCEPTED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def _only_message(data: bytes) -> bytes | None:
    """Return the message of a read that is one short masked text frame.

    Returns:
        None for any other read.
    """
    size = len(data)
    if size < _HEADER_BYTES or data[0] != _TEXT or data[1] != 0x80 | (size - _HEADER_BYTES) or size > 125:
        return None
    return apply_mask(data[_HEADER_BYTES:], data[2:_HEADER_BYTES])


def _framed(text: str) -> bytes:
    payload = text.encode()
    return header(TEXT, len(payload)) + payload


_TOKEN = _framed(TOKEN_FRAME)
_ENDS = [_framed(end) for end in ENDS]


class _Least(asyncio.Protocol):
    """Connection that handles `trickle`, `stop N` and a close, one per read."""

    def __init__(self) -> None:
        self._open = False
        self._stream: asyncio.Task[None] | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._open:
            self._accept(data)
        elif data[0] == _CLOSE:
            self._transport.write(_CLOSED)
            self._transport.close()
        elif (message := _only_message(data)) is not None:
            command, _, count = message.partition(b" ")
            if command == b"stop":
                self._transport.write(_ENDS[min(int(count), len(_ENDS) - 1)])
                self._stop()
            else:
                self._stream = asyncio.get_running_loop().create_task(self._trickle())

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()

    def _accept(self, head: bytes) -> None:
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "sec-websocket-key":
                accept = f"Sec-WebSocket-Accept: {accept_key(value.strip())}"
                self._transport.write(f"{_ACCEPTED}{accept}\r\n\r\n".encode())
                self._open = True

    def _stop(self) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self._stream = None

    async def _trickle(self) -> None:
        due = monotonic()
        while True:
            self._transport.write(_TOKEN)
            due += 1 / RATE
            await asyncio.sleep(due - monotonic())


def serve_least(port: int) -> None:
    """Run it until it is terminated."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Least, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(run())
