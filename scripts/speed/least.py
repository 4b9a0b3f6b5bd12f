"""Minimum cost of an interrupt in Python, with prepared bytes.

The callback that reads an interrupt writes the answer. There is no ASGI, no complete parser of RFC 6455, and
no task that wakes up to read. The remaining cost is that of the kernel, the event loop and the load
generator, and no server is faster. So this row shows the room for decoding, fence, numbers, log and answers.
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from time import monotonic
from typing import cast

import uvloop
from websockets.utils import accept_key

from bargein_server.transport.frames import TEXT, header, only_message

from .floor import ENDS, RATE, TOKEN_FRAME

_MAX_SIZE = 4096
_CLOSE, _CLOSED = 0x88, b"\x88\x02\x03\xe8"
_ACCEPTED = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


def _framed(text: str) -> bytes:
    payload = text.encode()
    return header(TEXT, len(payload)) + payload


_TOKEN = _framed(TOKEN_FRAME)
_ENDS = [_framed(end) for end in ENDS]


class _Least(asyncio.Protocol):
    """Connection with `trickle`, `stop N` and close, each in one read."""

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
        elif (message := only_message(data, _MAX_SIZE)) is not None:
            command, _, count = message[0].partition(b" ")
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
    """Run the server until it is terminated."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Least, "127.0.0.1", port)
        await server.serve_forever()

    uvloop.run(run())
