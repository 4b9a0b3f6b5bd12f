"""Interfaces that the hosts need of the sockets above them."""

from __future__ import annotations

from typing import Protocol

from bargein_protocol import Code


class Writable(Protocol):
    """A socket that takes whole frames."""

    @property
    def late(self) -> int:
        """How many frames `write_soon` has put off."""
        ...

    @property
    def writable(self) -> bool:
        """Whether more may be written without filling the buffer beyond its mark."""
        ...

    def write(self, frames: list[bytes]) -> None:
        """Hand frames over in one write; never waits."""
        ...

    def write_soon(self, frame: bytes, now: float) -> None:
        """Hand over a frame that may wait for those of other sessions, for milliseconds."""
        ...

    def take_back(self) -> int:
        """Drop the frames that `write_soon` has put off; return their count."""
        ...


class ClientConnection(Protocol):
    """The connection that drives a session.

    Attributes:
        number: A newer connection has a higher one.
    """

    number: int

    @property
    def wire(self) -> Writable:
        """The socket."""
        ...

    def write_out(self) -> None:
        """Write the frames that the core has ready."""
        ...

    def hand_over(self, frames: list[bytes]) -> None:
        """Write frames immediately, past a full buffer too; never raises."""
        ...

    def close(self, code: Code) -> None:
        """End the connection with a code."""
        ...

    def replaced(self) -> None:
        """End the connection because a newer one drives the session."""
        ...


class Follower(Protocol):
    """A connection that only reads a session."""

    def writable_again(self) -> None:
        """Write what is new."""
        ...

    def close(self, code: Code) -> None:
        """End the stream with a code after the last frame of the log."""
        ...


class Closable(Protocol):
    """An event stream that must be closed when the server stops."""

    def close(self, code: Code) -> None:
        """End the stream with a code."""
        ...
