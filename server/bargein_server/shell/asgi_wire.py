"""The wire on plain ASGI, for servers other than uvicorn and for test clients.

ASGI has no write that does not wait, so a writer task stands between: a frame that the server has
accepted but not written can trail an interrupt by one. Clients drop it by its turn id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from starlette.websockets import WebSocket, WebSocketDisconnect

from bargein_protocol import Code

from .connection import Connection

HIGH_WATER = 4096


class AsgiWire:
    """A `Wire` on a Starlette WebSocket; `run` must be awaited for frames to leave.

    Args:
        websocket: The socket, accepted.
        text: Whether frames are text frames.
    """

    def __init__(self, websocket: WebSocket, text: bool) -> None:
        self._websocket = websocket
        self._text = text
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

    @property
    def backlog(self) -> int:
        """Bytes that wait for the writer."""
        return self._backlog

    def write(self, frames: Sequence[bytes]) -> None:
        """Give frames to the writer."""
        if self._close is None and not self._aborted:
            self._frames.extend(frames)
            self._backlog += sum(map(len, frames))
            self._wanted.set()

    def close(self, code: Code) -> None:
        """Have the writer close the socket when everything before is written."""
        if self._close is None:
            self._close = code
            self._wanted.set()

    def abort(self) -> None:
        """Drop what was not written; the socket is closed when `run` ends."""
        self._aborted = True
        self._frames.clear()
        self._gone.set()

    async def run(self, connection: Connection) -> None:
        """Read and write until the socket is gone. Cancelling it drops the connection."""
        self._drained = connection.writable_again
        tasks = {asyncio.create_task(self._read(connection)), asyncio.create_task(self._write())}
        gone = asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait({*tasks, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # First, and without an await before it: whoever cancels us may do so twice.
            connection.disconnected()
            for task in (*tasks, gone):
                task.add_done_callback(_retrieve)
                task.cancel()

    async def _read(self, connection: Connection) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                return
            text = message.get("text")
            connection.receive(message["bytes"] if text is None else text.encode(), text is not None)

    async def _write(self) -> None:
        try:
            while not self._aborted:
                await self._wanted.wait()
                self._wanted.clear()
                await self._write_frames()
                if self._close is not None:
                    await self._websocket.close(self._close.number, self._close.reason)
                    return
        except (OSError, RuntimeError, WebSocketDisconnect):
            return  # the peer is gone, which ASGI servers say in any of these ways

    async def _write_frames(self) -> None:
        while self._frames:
            frames, self._frames = self._frames, []
            for frame in frames:
                if self._aborted:
                    return
                if self._text:
                    await self._websocket.send_text(frame.decode())
                else:
                    await self._websocket.send_bytes(frame)
                self._backlog -= len(frame)
            self._drained()


def _nothing() -> None:
    pass


def _retrieve(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()
