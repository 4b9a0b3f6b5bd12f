"""How the shell sees a socket.

There are three: the transport under uvicorn (`uvicorn_protocol.TransportWire`), plain ASGI for every
other server (`asgi_wire.AsgiWire`), and an in-memory network in simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from bargein_protocol import Code


class Wire(Protocol):
    """One socket that takes whole frames.

    Attributes:
        writable: Whether more may be written without filling the buffer beyond its mark. Answers
            are written all the same.
    """

    @property
    def writable(self) -> bool:
        """See the class."""
        ...

    def write(self, frames: Sequence[bytes]) -> None:
        """Hand frames over, in one write if possible. It never waits; after a loss it does nothing."""
        ...

    def close(self, code: Code) -> None:
        """Begin the closing handshake, after everything that was written."""
        ...

    def abort(self) -> None:
        """Drop the connection and what was not sent."""
        ...
