"""Wires: the writing end of a connection.

Under uvicorn frames go directly to the transport (`TransportWire`). A frame has a header that was prepared
for its size (RFC 6455 section 5.2). Frames of a peer are parsed by `websockets`.

Under other servers, and for event streams, every write of ASGI waits, so each such wire has a task that
writes (`TaskWire`). A frame that the task holds when an interrupt is accepted may still leave after it.
Clients drop it by its turn id.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from struct import pack
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from bargein_protocol import Code

from ..hosting.ports import HIGH_WATER, Receiver, Writer
from .websocket_protocol import BargeinProtocol

TEXT, BINARY = 1, 2
_FINAL = 0x80

# Headers are prepared for frames below this size, such as those of tokens: making one takes as long as a
# write of the frame.
PREPARED = 512


def header(opcode: int, size: int) -> bytes:
    """Return the header of a whole unmasked message."""
    if size < 126:
        return pack("!BB", _FINAL | opcode, size)
    if size < 65536:
        return pack("!BBH", _FINAL | opcode, 126, size)
    return pack("!BBQ", _FINAL | opcode, 127, size)


HEADERS = {opcode: [header(opcode, size) for size in range(PREPARED)] for opcode in (TEXT, BINARY)}


class TransportWire:
    """A `Wire` on the transport of a `BargeinProtocol`.

    Args:
        protocol: The protocol, after its handshake, without compression.
        text: Whether frames are text frames.

    Attributes:
        protocol: The protocol.
        writable: Whether the transport's buffer is below its mark, and bytes in flight are below their
            cap. The protocol keeps it current, because it is checked for every token.
    """

    __slots__ = (
        "_capped", "_closed", "_headers", "_opcode", "_transport", "protocol", "writable",
    )  # fmt: skip

    def __init__(self, protocol: BargeinProtocol, text: bool) -> None:
        self.protocol = protocol
        self._transport = protocol.transport
        self._opcode = TEXT if text else BINARY
        self._headers = HEADERS[self._opcode]
        self._closed = False
        self._capped = protocol.in_flight is not None
        self.writable = True
        protocol.wire = self
        protocol.take_output()

    def write(self, frames: Sequence[bytes]) -> None:
        """Write frames in one write, unmasked (RFC 6455 section 5.1)."""
        if self._closed or self._transport.is_closing():
            return
        parts: list[bytes] = []
        for frame in frames:
            size = len(frame)
            parts.append(self._headers[size] if size < PREPARED else header(self._opcode, size))
            parts.append(frame)
        self._transport.write(b"".join(parts))
        if self._capped:
            self.protocol.take_output()

    def close(self, code: Code) -> None:
        """Send a close frame and wait for the peer's, for a bounded time."""
        if not self._closed:
            self._closed = True
            self.protocol.close(code.number, code.reason)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()


class TaskWire(ABC):
    """A `Wire` with a task that writes.

    Frames leave while a subclass awaits `_serve`.
    """

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._backlog = 0
        self._close: Code | None = None
        self._wanted = asyncio.Event()
        self._aborted = False
        self._gone = asyncio.Event()
        self._drained: Callable[[], None] = _nothing

    @property
    def writable(self) -> bool:
        """Whether the bytes that wait for the writer are below the mark."""
        return self._backlog < HIGH_WATER

    def write(self, frames: Sequence[bytes]) -> None:
        """Queue frames for the writer."""
        if self._close is None and not self._aborted:
            self._frames.extend(frames)
            self._backlog += sum(map(len, frames))
            self._wanted.set()

    def close(self, code: Code) -> None:
        """Let the writer close the socket after the queued frames."""
        if self._close is None:
            self._close = code
            self._wanted.set()

    def abort(self) -> None:
        """Drop the queued frames; the socket is closed when the tasks have ended."""
        self._aborted = True
        self._frames.clear()
        self._gone.set()

    @abstractmethod
    async def _send(self, frames: list[bytes]) -> None:
        """Write frames, and call `_sent` with the size of each that has left."""

    @abstractmethod
    async def _send_close(self, code: Code) -> None:
        """Close the socket with a code."""

    async def _serve(self, writer: Writer, reading: Coroutine[Any, Any, None]) -> None:
        """Write until the peer is gone; cancelling it drops the connection.

        Args:
            writer: The connection.
            reading: Coroutine that ends when the peer is gone.
        """
        self._drained = writer.writable_again
        tasks = {asyncio.create_task(reading), asyncio.create_task(self._write())}
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait({*tasks, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Before any await, because the task may be cancelled a second time.
            writer.disconnected()
            for task in (*tasks, gone):
                task.add_done_callback(_retrieve)
                task.cancel()

    async def _write(self) -> None:
        try:
            while not self._aborted:
                await self._wanted.wait()
                self._wanted.clear()
                while self._frames:
                    frames, self._frames = self._frames, []
                    await self._send(frames)
                    self._drained()
                if self._close is not None:
                    await self._send_close(self._close)
                    return
        except (OSError, RuntimeError, WebSocketDisconnect):
            return  # the peer is gone: servers raise any of these

    def _sent(self, size: int) -> None:
        self._backlog -= size


class AsgiWire(TaskWire):
    """A `Wire` on a Starlette WebSocket; frames leave while `run` is awaited.

    Args:
        websocket: The accepted socket.
        text: Whether frames are text frames.
    """

    def __init__(self, websocket: WebSocket, text: bool) -> None:
        super().__init__()
        self._websocket = websocket
        self._text = text

    async def run(self, connection: Receiver) -> None:
        """Read and write until the peer is gone; cancelling it aborts."""
        await self._serve(connection, self._read(connection))

    async def _read(self, connection: Receiver) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            connection.receive(message["bytes"] if text is None else text.encode(), text is not None)

    async def _send(self, frames: list[bytes]) -> None:
        for frame in frames:
            if self._aborted:
                return
            if self._text:
                await self._websocket.send_text(frame.decode())
            else:
                await self._websocket.send_bytes(frame)
            self._sent(len(frame))

    async def _send_close(self, code: Code) -> None:
        await self._websocket.close(code.number, code.reason)


def _nothing() -> None:
    pass


def _retrieve(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()
