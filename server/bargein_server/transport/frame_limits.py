"""Counters and bounds for the frames of a peer.

Every frame of every opcode passes here, and only here.

`websockets` bounds the bytes of a message (`ws_max_size`) and of a control frame (125). It bounds
neither the fragments of a message, which may be empty, nor the number of pings, nor the pongs that wait
for a peer that reads none of them, nor the frames that a single read carries.
"""

from __future__ import annotations

from websockets.frames import Frame, Opcode

from bargein_protocol import Code
from bargein_protocol.errors import TOO_BIG

READ_BYTES = 2048
"""Bytes that are parsed at a time: at most 341 frames, whose pongs leave in one write."""

MAX_READ_BYTES = 8192
"""The same inside of a large frame."""

FRAMES_PER_ITERATION = 256
"""Frames of one peer after which the event loop serves other sockets, rounded up to whole reads."""

_CONT, _PING, _TEXT = Opcode.CONT, Opcode.PING, Opcode.TEXT


class FrameCounter:
    """Counter of one peer's frames, which joins the fragments of its messages.

    Args:
        max_pieces: Fragments per message.
        max_pong_bytes: Bytes that may wait in the transport of a peer that reads no pongs.

    Attributes:
        frames: Frames of every opcode.
        pings: Pings among them.
        text: Whether the fragments are of a text message.
    """

    __slots__ = ("_max_pieces", "_max_pong_bytes", "_pieces", "frames", "pings", "text")

    def __init__(self, max_pieces: int, max_pong_bytes: int) -> None:
        self.frames = 0
        self.pings = 0
        self.text = False
        self._pieces: list[bytes] = []  # fragments of the message that is being read
        self._max_pieces = max_pieces
        self._max_pong_bytes = max_pong_bytes

    def take(self, frame: Frame) -> Code | None:
        """Count a frame; return the code to close with when it breaks a bound."""
        self.frames += 1
        opcode = frame.opcode
        if opcode is _CONT:
            if len(self._pieces) >= self._max_pieces:
                return TOO_BIG
        elif opcode is _PING:
            self.pings += 1
        return None

    def assemble(self, frame: Frame) -> bytes | None:
        """Take a counted fragment; return the message that it completes."""
        if frame.opcode is not _CONT:
            self.text = frame.opcode is _TEXT
        self._pieces.append(bytes(frame.data))
        if not frame.fin:
            return None
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def too_many_pongs(self, buffered: int) -> bool:
        """Return whether a peer that does not read left too many bytes unread."""
        return buffered > self._max_pong_bytes
