"""Channel: a socket between two processes before it becomes a pipe.

Letters are read to the byte, and never past their end: a stream reader would take the bytes that follow,
and a descriptor that comes with them would be lost.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
import struct
from collections.abc import Sequence

from .letters import HEADER, MAX_LETTER_BYTES, BadLetter

_FDS = 4
"""Descriptors that a letter may bring; further ones are closed by the kernel."""

CAN_PASS_SOCKETS = hasattr(socket, "SCM_RIGHTS") and hasattr(socket, "AF_UNIX")
"""Whether the system hands sockets over between processes."""


class Channel:
    """One end of a connection between two processes.

    Args:
        sock: The connected socket.
        name: Name of the process at the other end; empty for one that has connected to this one.

    Attributes:
        sock: The socket, without blocking.
        name: The name.
    """

    def __init__(self, sock: socket.socket, name: str = "") -> None:
        sock.setblocking(False)
        self.sock = sock
        self.name = name
        self._passes = CAN_PASS_SOCKETS and sock.family == socket.AF_UNIX
        self._detached = False

    @property
    def is_remote(self) -> bool:
        """Whether the process at the other end may be on another machine."""
        return self.sock.family != socket.AF_UNIX

    @property
    def passes_sockets(self) -> bool:
        """Whether descriptors may go with a letter."""
        return self._passes

    def close(self) -> None:
        """Close the socket, unless a transport has it."""
        if not self._detached:
            self.sock.close()

    def detach(self) -> socket.socket:
        """Return the socket, which is the caller's from now on."""
        self._detached = True
        return self.sock

    @property
    def is_trusted(self) -> bool:
        """Whether the process at the other end belongs to the same user."""
        if not hasattr(socket, "SO_PEERCRED"):  # macOS: the folder's permissions alone
            return True
        credentials = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
        return int(uid) == os.getuid()

    async def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send bytes, with descriptors beside the first one."""
        view = memoryview(data)
        if descriptors:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())
            while True:
                try:
                    view = view[self.sock.sendmsg([view], [rights]) :]
                    break
                except BlockingIOError:
                    await _ready(self.sock, writing=True)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await _ready(self.sock, writing=True)

    async def receive(self, most: int = MAX_LETTER_BYTES) -> tuple[int, bytes, list[int]]:
        """Return the kind, the payload and the descriptors of the next letter.

        The descriptors are the caller's. Cancelling it makes the channel useless.

        Args:
            most: Maximum size of the payload in bytes.

        Raises:
            BadLetter: It is too large.
            ConnectionError: The other end is gone.
        """
        descriptors: list[int] = []
        try:
            size, kind = HEADER.unpack(await self._exactly(HEADER.size, descriptors))
            if size > most:
                raise BadLetter(f"expected at most {most} bytes, got {size}")
            return kind, await self._exactly(size, descriptors), descriptors
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise

    async def _exactly(self, size: int, descriptors: list[int]) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                part = self._read(size - len(data), descriptors)
            except BlockingIOError:
                await _ready(self.sock, writing=False)
                continue
            if not part:
                raise ConnectionResetError("the other process has closed the connection")
            data += part
        return bytes(data)

    def _read(self, size: int, descriptors: list[int]) -> bytes:
        if not self._passes:
            return self.sock.recv(min(size, 1 << 20))
        passed = array.array("i")
        part, ancillary, _, _ = self.sock.recvmsg(
            min(size, 1 << 20), socket.CMSG_SPACE(_FDS * passed.itemsize)
        )
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                passed.frombytes(content[: len(content) - len(content) % passed.itemsize])
        descriptors += passed
        return part


async def _ready(sock: socket.socket, *, writing: bool) -> None:
    """Wait until a socket can be read or written."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def done() -> None:
        if not ready.done():
            ready.set_result(None)

    number = sock.fileno()
    (loop.add_writer if writing else loop.add_reader)(number, done)
    try:
        await ready
    finally:
        (loop.remove_writer if writing else loop.remove_reader)(number)
