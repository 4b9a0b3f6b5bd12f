"""A WebSocket by hand, for peers that break its rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from live_server import Serving
from waiting import WAIT_S

MASK = bytes(4)

MAJOR = int(version("websockets").partition(".")[0])
"""Version of the library below the server."""

ANSWERS_ALL = MAJOR >= 17
"""Whether it answers a handshake that is too large, or none, with an HTTP status."""

HEAD = (
    "GET /v1/session HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """Return a masked frame, RFC 6455 section 5.2."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([(0x80 if final else 0) | opcode]) + length + MASK + payload


Raw = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def raw(server: Serving, head: str) -> AsyncIterator[Raw]:
    """Open a TCP connection and send a head, or a part of one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(head.encode())
        yield reader, writer
    finally:
        writer.transport.abort()


@asynccontextmanager
async def upgraded(server: Serving) -> AsyncIterator[Raw]:
    """Open a WebSocket by hand."""
    async with raw(server, HEAD + "\r\n") as (reader, writer):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        yield reader, writer


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return all bytes until the server has ended the connection."""
    received = b""
    async with asyncio.timeout(WAIT_S):
        try:
            while data := await reader.read(2**16):
                received += data
        except ConnectionError:
            pass
    return received
