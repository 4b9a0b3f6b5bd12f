"""Link: a connection between two processes as a pipe of letters."""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from typing import Protocol, cast

from .channel import Channel
from .letters import HEADER, MAX_LETTER_BYTES, Kind

HIGH_WATER = 4096
"""Bytes in the transport's buffer above which no output is written: an interrupt cannot purge them."""


class LinkEnd(Protocol):
    """User of one end of a link.

    Attributes:
        link: The link, which sets it before anything else is called.
    """

    link: Link

    def link_made(self) -> None:
        """Begin, before any letter is taken."""
        ...

    def take(self, kind: int, payload: bytes) -> None:
        """Take a letter, in the callback that read it."""
        ...

    def took(self) -> None:
        """Act on all letters that were read together."""
        ...

    def link_writable(self) -> None:
        """Record that the link takes output again."""
        ...

    def link_lost(self) -> None:
        """Record that the other end is gone; nothing follows."""
        ...


class Link(asyncio.Protocol):
    """One end of a pipe.

    Args:
        end: Its user.

    Attributes:
        writable: Whether the transport's buffer is below its mark.
    """

    def __init__(self, end: LinkEnd) -> None:
        self._end: LinkEnd | None = end
        self._unread = bytearray()
        self._transport: asyncio.Transport
        self.writable = True

    @classmethod
    async def over(cls, channel: Channel, end: LinkEnd) -> Link:
        """Return a link over a channel, whose letters so far were read."""
        loop = asyncio.get_running_loop()
        link = cls(end)
        await loop.connect_accepted_socket(lambda: link, channel.detach())
        return link

    def send(self, data: bytes) -> None:
        """Send encoded letters; nothing when the other end is gone."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close after everything that was sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close immediately."""
        self._transport.abort()

    # --- the event loop's side -------------------------------------------------------------------

    def connection_made(self, transport: BaseTransport) -> None:
        """Take the transport over (asyncio)."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._end is not None:
            self._end.link = self
            self._end.link_made()

    def data_received(self, data: bytes) -> None:
        """Read letters (asyncio)."""
        unread = self._unread
        unread += data
        at = 0
        while len(unread) - at >= HEADER.size and self._end is not None:
            size, kind = HEADER.unpack_from(unread, at)
            if size > MAX_LETTER_BYTES:
                self._transport.abort()
                return
            end = at + HEADER.size + size
            if len(unread) < end:
                break
            payload = bytes(unread[at + HEADER.size : end])
            at = end
            self._end.take(kind, payload)
        del unread[:at]
        if at and self._end is not None:
            self._end.took()

    def pause_writing(self) -> None:
        """Stop output (asyncio)."""
        self.writable = False

    def resume_writing(self) -> None:
        """Resume output (asyncio)."""
        self.writable = True
        if self._end is not None:
            self._end.link_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end (asyncio)."""
        end, self._end = self._end, None
        if end is not None:
            end.link_lost()


PAUSE = HEADER.pack(0, Kind.PAUSE)
RESUME = HEADER.pack(0, Kind.RESUME)
