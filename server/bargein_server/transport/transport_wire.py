"""Wire under uvicorn: frames go directly to the transport.

A frame has a header that was prepared for its size (RFC 6455 section 5.2). Frames of a peer are parsed by
`websockets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

from bargein_protocol import Code

from .websocket_protocol import BargeinProtocol

TEXT, BINARY = 1, 2
_FINAL = 0x80

# Headers are prepared for frames below this size, such as those of tokens: making one takes as long as a
# write of the frame.
PREPARED = 512


def header(opcode: int, size: int) -> bytes:
    """Return the header of a whole unmasked message."""
    if size < 126:
        return pack("!BB", _FINAL | opcode, size)
    if size < 65536:
        return pack("!BBH", _FINAL | opcode, 126, size)
    return pack("!BBQ", _FINAL | opcode, 127, size)


HEADERS = {opcode: [header(opcode, size) for size in range(PREPARED)] for opcode in (TEXT, BINARY)}


class TransportWire:
    """A `Wire` on the transport of a `BargeinProtocol`.

    Args:
        protocol: The protocol, after its handshake, without compression.
        text: Whether frames are text frames.

    Attributes:
        writable: Whether the transport's buffer is below its mark, and bytes in flight are below their
            cap. The protocol keeps it current, because it is checked for every token.
    """

    __slots__ = (
        "_capped", "_closed", "_headers", "_opcode", "_protocol", "_transport", "writable",
    )  # fmt: skip

    def __init__(self, protocol: BargeinProtocol, text: bool) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._opcode = TEXT if text else BINARY
        self._headers = HEADERS[self._opcode]
        self._closed = False
        self._capped = protocol.in_flight is not None
        self.writable = True
        protocol.wire = self
        protocol.take_output()

    def write(self, frames: Sequence[bytes]) -> None:
        """Write frames in one write, unmasked (RFC 6455 section 5.1)."""
        if self._closed or self._transport.is_closing():
            return
        parts: list[bytes] = []
        for frame in frames:
            size = len(frame)
            parts.append(self._headers[size] if size < PREPARED else header(self._opcode, size))
            parts.append(frame)
        self._transport.write(b"".join(parts))
        if self._capped:
            self._protocol.take_output()

    def close(self, code: Code) -> None:
        """Send a close frame and wait for the peer's, for a bounded time."""
        if not self._closed:
            self._closed = True
            self._protocol.close(code.number, code.reason)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()
