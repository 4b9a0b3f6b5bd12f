"""The client's end of a simulated connection (`bargein_client.channel.Channel`)."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import bargein_protocol as bp
from bargein_client.errors import ChannelClosed
from bargein_protocol import JSON, Code
from bargein_protocol.errors import ABNORMAL

from .loop import SimulatedLoop
from .witness import Witness

if TYPE_CHECKING:
    from .network import Link


class SimulatedLine:
    """See the module.

    Attributes:
        last_received_at: When something came last.
        reading: Whether the client reads.
    """

    def __init__(self, link: Link, loop: SimulatedLoop, witness: Witness) -> None:
        self.last_received_at = loop.time()
        self.reading = True
        self._link = link
        self._loop = loop
        self._witness = witness
        self._came: deque[bytes | Code] = deque()
        self._over: Code | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def has_room(self) -> bool:
        """Whether the client's own buffer takes one more frame."""
        return len(self._came) < self._link._weather.unread

    def put(self, item: bytes | Code) -> None:
        """Something came."""
        if self._over is None:
            self.last_received_at = self._loop.time()
            self._came.append(item)
            self._tell()

    def lose(self) -> None:
        """The socket is gone."""
        if self._over is None:
            self._over = ABNORMAL
            self._tell()

    def read_again(self, reading: bool = True) -> None:
        """Let the client read or not."""
        self.reading = reading
        self._tell()

    def _tell(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def send(self, event: bp.ClientEvent) -> None:
        """Write an event."""
        self.send_frame(JSON.encode(event))

    def send_frame(self, frame: bytes) -> None:
        """Write a frame; one that begins with a zero byte is a binary one."""
        if self._over is not None:
            raise ChannelClosed(self._over, self._over.reason)
        if not self._link._severed:
            self._link.send_up(frame)

    async def receive(self) -> bp.ServerEvent | bp.UnknownEvent:
        """Return the next event."""
        while not (self.reading and self._came):
            if self._over is not None and not self._came:
                raise ChannelClosed(self._over, self._over.reason)
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        item = self._came.popleft()
        self._link.wake()
        if isinstance(item, Code):
            self._over = item
            self._link.hung_up()
            raise ChannelClosed(item, item.reason)
        event = JSON.decode_server(item)
        self._witness.received(item, event)
        return event

    def abort(self) -> None:
        """Cut the line now."""
        if self._over is None:
            self._over = ABNORMAL
            self._link.hung_up()
            self._came.clear()
            self._tell()

    async def wait_closed(self) -> None:
        """Nothing is left of it."""
