"""TCP relay on a free port of the loopback that a test can break."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from memory_net import Cut, Direction, How


class Relay:
    """Passes bytes on between clients and one server.

    Attributes:
        port: Where clients connect.
        target: The server's port; may change while it runs.
        delay_s: How long bytes of the server take from now on.
        carried: Bytes that passed on the last line, by direction.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.delay_s = 0.0
        self.carried: dict[Direction, int] = {"up": 0, "down": 0}
        self._next_cut: Cut | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break every line without a word; new ones may come."""
        for writer in self._writers:
            writer.transport.abort()

    def cut_next(self, direction: Direction, after: int, how: How) -> None:
        """Break the next line after so many bytes in a direction."""
        self._next_cut = Cut(direction, after, how)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(back)
        carried: dict[Direction, int] = {"up": 0, "down": 0}
        self.carried = carried
        cut, self._next_cut = self._next_cut, None
        ways: list[tuple[Direction, asyncio.StreamReader, asyncio.StreamWriter]]
        ways = [("up", reader, back), ("down", there, writer)]
        for way, source, sink in ways:
            pair = (writer, back)
            cut_here = cut if cut is not None and cut.direction == way else None
            task = asyncio.create_task(self._pass(way, source, sink, carried, pair, cut_here))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self,
        way: Direction,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        carried: dict[Direction, int],
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        cut: Cut | None,
    ) -> None:
        try:
            while data := await source.read(65_536):
                if cut is not None:
                    data = data[: cut.after - carried[way]]
                carried[way] += len(data)
                if way == "down" and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                sink.write(data)
                await sink.drain()
                if cut is not None and carried[way] == cut.after:
                    for writer in pair:
                        _break(writer, cut.how)
                    return
        except OSError:
            pass
        finally:
            sink.transport.abort()
            self._writers.discard(sink)

    async def close(self) -> None:
        self.cut()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _break(writer: asyncio.StreamWriter, how: How) -> None:
    """End a connection; `silence` is only for cables in memory."""
    if how == "rst":
        # RFC 9293 section 3.10.4: a close that does not linger is a reset.
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        writer.transport.abort()
    else:
        writer.close()


@asynccontextmanager
async def relay(target: int) -> AsyncIterator[Relay]:
    """Run a relay to a port."""
    line = Relay(target)
    listener = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = listener.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        listener.close()
        await line.close()
