"""Pipe: both ends of a client's connection that another process serves.

The process that has the socket checks rates, passes each message on, and writes the frames that come back.
The owner has a `Connection` on a wire that is the link. A client that does not read pauses the owner, so
that output waits where an interrupt can purge it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bargein_protocol import Code
from bargein_protocol.errors import RESTART, code_of_close

from ..hosting.elsewhere import Relay
from ..hosting.ports import Receiver, Wire
from .letters import HEADER, Kind, letter
from .link import PAUSE, RESUME, Link


class PipeWire:
    """A `Wire` of the owner, which ends in another process.

    Args:
        text: Whether frames are text frames.
        begin: Called when frames can be written.

    Attributes:
        link: The link.
        receiver: The connection; set before the link is made.
    """

    link: Link
    receiver: Receiver

    def __init__(self, text: bool, begin: Callable[[], object]) -> None:
        self._begin = begin
        self._kind = Kind.TEXT if text else Kind.BINARY
        self._paused = False
        self._closed = False

    @property
    def writable(self) -> bool:
        """Whether the client takes output, and the link as well."""
        return not self._paused and self.link.writable

    def write(self, frames: Sequence[bytes]) -> None:
        """Send frames in one write."""
        if not self._closed:
            parts: list[bytes] = []
            for frame in frames:
                parts.append(HEADER.pack(len(frame), self._kind))
                parts.append(frame)
            self.link.send(b"".join(parts))

    def close(self, code: Code) -> None:
        """Let the other process close the client's connection."""
        if not self._closed:
            self._closed = True
            self.link.send(letter(Kind.CLOSE, str(code.number).encode()))
            self.link.close()

    def abort(self) -> None:
        """Drop the client's connection."""
        self._closed = True
        self.link.send(letter(Kind.ABORT))
        self.link.close()

    def drop(self) -> None:
        """Drop the pipe at once, with its unsent output."""
        self.link.abort()

    # --- the link's side -------------------------------------------------------------------------

    def link_made(self) -> None:
        """Let the connection take its first event."""
        self._begin()

    def take(self, kind: int, payload: bytes) -> None:
        """Take a message of the client, or a report on its output."""
        if kind in (Kind.TEXT, Kind.BINARY):
            self.receiver.receive(payload, kind == Kind.TEXT)
        elif kind == Kind.PAUSE:
            self._paused = True
        elif kind == Kind.RESUME:
            self._paused = False
            self.link_writable()

    def took(self) -> None:
        """Do nothing: each message has taken effect."""

    def link_writable(self) -> None:
        """Let the connection continue to write."""
        if self.writable:
            self.receiver.writable_again()

    def link_lost(self) -> None:
        """Let the connection end."""
        self._closed = True
        self.receiver.disconnected()


class PipedClient(Protocol):
    """The connection whose client another process serves."""

    @property
    def wire(self) -> Wire:
        """The client's socket."""
        ...

    def close(self, code: Code) -> None:
        """End the connection with a code."""
        ...

    def relay_to(self, relay: Relay) -> None:
        """Pass everything on from now on."""
        ...


class PipeRelay:
    """End of a pipe at the client's socket; a `Relay`.

    Args:
        client: The client's connection.
        ended: Called once when the pipe is over.

    Attributes:
        link: The link.
    """

    link: Link

    def __init__(self, client: PipedClient, ended: Callable[[PipeRelay], object]) -> None:
        self._client = client
        self._ended = ended
        self._frames: list[bytes] = []
        self._paused = False
        self._over = False

    def append(self, message: tuple[bytes, bool]) -> None:
        """Pass on a message of the client."""
        data, text = message
        self.link.send(letter(Kind.TEXT if text else Kind.BINARY, data))

    def writable_again(self) -> None:
        """Let the owner continue to write."""
        if self._paused:
            self._paused = False
            self.link.send(RESUME)

    def close(self) -> None:
        """Close the pipe: the client is gone."""
        if not self._over:
            self._over = True
            self._ended(self)
            self.link.abort()

    # --- the link's side -------------------------------------------------------------------------

    def link_made(self) -> None:
        """Pass the client's bytes on, as far as they have come."""
        self._client.relay_to(self)

    def take(self, kind: int, payload: bytes) -> None:
        """Take a frame for the client, or the end of its connection."""
        if kind in (Kind.TEXT, Kind.BINARY):
            self._frames.append(payload)
            return
        self.took()
        if kind == Kind.CLOSE:
            self._end(code_of_close(int(payload)))
        elif kind == Kind.ABORT:
            self._client.wire.abort()

    def took(self) -> None:
        """Write the frames that came together, in one write."""
        wire, frames = self._client.wire, self._frames
        if frames:
            self._frames = []
            wire.write(frames)
        if not wire.writable and not self._paused:
            self._paused = True
            self.link.send(PAUSE)

    def link_writable(self) -> None:
        """Do nothing: messages of clients are bounded by their rates."""

    def link_lost(self) -> None:
        """Ask the client to come back: the owner is gone."""
        self._end(RESTART)

    def _end(self, code: Code) -> None:
        if not self._over:
            self._over = True
            self._ended(self)
            self._client.close(code)
            self.link.close()
