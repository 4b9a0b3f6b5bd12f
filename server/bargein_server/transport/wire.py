"""Interfaces between a socket and its connection.

A `Wire` takes frames down. There are four: the transport under uvicorn
(`transport_wire.TransportWire`), plain ASGI for every other server (`asgi_wire.AsgiWire`), the response
to an HTTP request (`event_stream.EventStreamWire`), and an in-memory network in simulations. A
`Receiver` takes messages up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bargein_protocol import Code

# Bytes in a transport's buffer above which no more output is written. The mark is low because an
# interrupt purges output in the core, but not output in the transport.
HIGH_WATER = 4096


class Wire(Protocol):
    """One socket that takes whole frames.

    Attributes:
        writable: Whether output may be written: the buffer is below its mark. Answers are written past
            the mark.
    """

    @property
    def writable(self) -> bool:
        """Whether output may be written."""
        ...

    def write(self, frames: Sequence[bytes]) -> None:
        """Write frames, in one write if possible; return immediately.

        After the connection was lost this does nothing.
        """
        ...

    def close(self, code: Code) -> None:
        """Start the closing handshake, after everything that was written."""
        ...

    def abort(self) -> None:
        """Drop the connection and the frames that were not sent."""
        ...


class Writer(Protocol):
    """Writer of a wire: a connection that drives or follows a session."""

    def writable_again(self) -> None:
        """Continue writing."""
        ...

    def disconnected(self) -> None:
        """Record that the peer is gone."""
        ...


class Receiver(Writer, Protocol):
    """Writer of a wire that takes messages as well."""

    def receive(self, frame: bytes, text: bool) -> None:
        """Take a whole message, in the callback that read it."""
        ...

    def hung_up(self) -> None:
        """Record that the wire takes no more output; `disconnected` follows, perhaps much later."""
        ...


class Gate(Protocol):
    """Wire that keeps in an attribute whether output may be written."""

    writable: bool
