"""The wires on plain ASGI: WebSockets of servers other than uvicorn, test clients, and event streams.

ASGI has no write that does not wait, so a writer task stands between: a frame that the server has
accepted but not written can trail an interrupt by one. Clients drop it by its turn id.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from bargein_protocol import Code

from .wire import HIGH_WATER, Receiver, Writer


class TaskWire(ABC):
    """A `Wire` with a task that writes; a subclass must have `_serve` awaited for frames to leave."""

    late = 0  # nothing is ever put off

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
        """Whether few enough bytes wait for the writer."""
        return self._backlog < HIGH_WATER

    def write(self, frames: Sequence[bytes]) -> None:
        """Give frames to the writer."""
        if self._close is None and not self._aborted:
            self._frames.extend(frames)
            self._backlog += sum(map(len, frames))
            self._wanted.set()

    def write_soon(self, frame: bytes, now: float) -> None:
        """Give a frame to the writer."""
        self.write((frame,))

    def take_back(self) -> int:
        """Nothing is ever put off."""
        return 0

    def close(self, code: Code) -> None:
        """Have the writer close the socket when everything before is written."""
        if self._close is None:
            self._close = code
            self._wanted.set()

    def abort(self) -> None:
        """Drop what was not written; the socket is closed when the tasks have ended."""
        self._aborted = True
        self._frames.clear()
        self._gone.set()

    @abstractmethod
    async def _send(self, frames: list[bytes]) -> None:
        """Write frames, with `_sent` after each that has left."""

    @abstractmethod
    async def _send_close(self, code: Code) -> None:
        """Say why nothing more comes."""

    async def _serve(self, writer: Writer, reading: Coroutine[Any, Any, None]) -> None:
        """Write until the peer is gone, which is when `reading` ends. Cancelling it drops the connection."""
        self._drained = writer.writable_again
        tasks = {asyncio.create_task(reading), asyncio.create_task(self._write())}
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait({*tasks, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First, and without an await before it: whoever cancels us may do so twice.
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
            return  # the peer is gone, which ASGI servers say in any of these ways

    def _sent(self, size: int) -> None:
        self._backlog -= size


class AsgiWire(TaskWire):
    """A `Wire` on a Starlette WebSocket; `run` must be awaited for frames to leave.

    Args:
        websocket: The socket, accepted.
        text: Whether frames are text frames.
    """

    def __init__(self, websocket: WebSocket, text: bool) -> None:
        super().__init__()
        self._websocket = websocket
        self._text = text

    async def run(self, connection: Receiver) -> None:
        """Read and write until the socket is gone. Cancelling it drops the connection."""
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
