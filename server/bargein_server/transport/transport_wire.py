"""The wire under uvicorn: frames go straight to the transport."""

from __future__ import annotations

from collections.abc import Sequence

from bargein_protocol import Code

from ..hosting.flush_scheduler import FlushScheduler
from .frames import BINARY, HEADERS, PREPARED, TEXT, header
from .websocket_protocol import BargeinProtocol


class TransportWire:
    """A `Wire` on the transport of a `BargeinProtocol`.

    Args:
        protocol: The protocol, after its handshake, without compression.
        text: Whether frames are text frames.
        outbox: The scheduler of the event loop.

    Attributes:
        late: Number of frames that `write_soon` has deferred.
        writable: Whether the transport's buffer is below its mark, and bytes in flight are below their
            cap. The protocol keeps it current, because it is read for every token.
    """

    __slots__ = (
        "_capped", "_closed", "_headers", "_late", "_opcode", "_outbox", "_protocol",
        "_transport", "late", "writable",
    )  # fmt: skip

    def __init__(self, protocol: BargeinProtocol, text: bool, outbox: FlushScheduler) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._opcode = TEXT if text else BINARY
        self._headers = HEADERS[self._opcode]
        self._outbox = outbox
        self._late = b""  # frames that `write_soon` has deferred
        self.late = 0
        self._closed = False
        self._capped = protocol.in_flight is not None
        self.writable = True
        protocol.wire = self
        protocol.take_output()

    def write(self, frames: Sequence[bytes]) -> None:
        """Write frames in one write, unmasked (RFC 6455 section 5.1)."""
        if self._closed or self._transport.is_closing():
            return
        parts, self._late, self.late = [self._late], b"", 0
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
            self.write_late()
            self._closed = True
            self._protocol.close(code.number, code.reason)

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def write_soon(self, frame: bytes, now: float) -> None:
        """Write a frame, or defer it in favour of other sockets."""
        if self._closed:
            return
        size = len(frame)
        data = (self._headers[size] if size < PREPARED else header(self._opcode, size)) + frame
        if self._late:
            self._late += data
            self.late += 1
        elif self._capped or not self._outbox.puts_off(self, now):
            if not self._transport.is_closing():
                self._transport.write(data)
                if self._capped:
                    self._protocol.take_output()
        else:
            self._late, self.late = data, 1

    def write_late(self) -> bool:
        """Write the deferred frames (`FlushScheduler`)."""
        late, self._late, self.late = self._late, b"", 0
        if late and not self._transport.is_closing():
            self._transport.write(late)
        return bool(late)

    def take_back(self) -> int:
        """Drop the deferred frames."""
        late, self._late, self.late = self.late, b"", 0
        return late
