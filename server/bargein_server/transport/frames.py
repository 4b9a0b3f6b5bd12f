"""What the fast paths of the transport know of WebSocket frames (RFC 6455 section 5.2).

Most messages of a client are one small frame that comes in one read. Such a one is taken apart here;
everything else is read by `websockets`, which also speaks the closing handshake and finds violations.
"""

from __future__ import annotations

from struct import pack

try:
    from websockets.speedups import apply_mask
except ImportError:  # where there is no wheel of it
    from websockets.utils import apply_mask

TEXT, BINARY = 1, 2
_FINAL, _MASKED = 0x80, 0x80
_MASK_BYTES = 4

# Headers by opcode and size, as far as frames of tokens go: making one costs as much as writing it.
PREPARED = 512


def header(opcode: int, size: int) -> bytes:
    """Return the header of a whole unmasked message."""
    if size < 126:
        return pack("!BB", _FINAL | opcode, size)
    if size < 65536:
        return pack("!BBH", _FINAL | opcode, 126, size)
    return pack("!BBQ", _FINAL | opcode, 127, size)


HEADERS = {opcode: [header(opcode, size) for size in range(PREPARED)] for opcode in (TEXT, BINARY)}


def only_message(data: bytes, max_size: int) -> tuple[bytes, bool] | None:
    """Return the message and whether it is text, if that is all that was read.

    Args:
        data: What was read from the beginning of a frame on, outside a fragmented message.
        max_size: Of a message, in bytes.

    Returns:
        None when it is anything else: several frames or a part of one, a control frame, a violation.
    """
    size = len(data)
    if size < 2 + _MASK_BYTES or not data[1] & _MASKED:
        return None
    opcode, length = data[0] & ~_FINAL, data[1] & ~_MASKED
    start = 2
    if length == 126:
        length, start = int.from_bytes(data[2:4], "big"), 4
        if length < 126:
            return None
    if data[0] & _FINAL and opcode in (TEXT, BINARY) and start + _MASK_BYTES + length == size <= max_size:
        payload = start + _MASK_BYTES
        return apply_mask(data[payload:], data[start:payload]), opcode == TEXT
    return None


class Boundaries:
    """Follows where frames begin, by their headers alone."""

    __slots__ = ("_head", "_missing")

    def __init__(self) -> None:
        self._head = b""  # of a frame whose length is not known yet
        self._missing = 0  # bytes of a frame that are still to come

    def follow(self, data: bytes) -> bool:
        """Take what was read; returns whether the next byte will begin a frame."""
        if self._head:
            data, self._head = self._head + data, b""
        at, size = self._missing, len(data)
        while at < size:
            length = _frame_size(data, at)
            if length is None:
                self._head, self._missing = data[at:], 0
                return False
            at += length
        self._missing = at - size
        return at == size


def _frame_size(data: bytes, at: int) -> int | None:
    """Return the bytes of a frame with its header, None when too little of the header is there."""
    if len(data) - at < 2:
        return None
    length, start = data[at + 1] & ~_MASKED, 2
    if length >= 126:
        start = 4 if length == 126 else 10
        if len(data) - at < start:
            return None
        length = int.from_bytes(data[at + 2 : at + start], "big")
    return start + length + (_MASK_BYTES if data[at + 1] & _MASKED else 0)
