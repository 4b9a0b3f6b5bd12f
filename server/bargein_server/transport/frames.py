"""WebSocket frames of a server: prepared headers, and close frames.

RFC 6455 sections 5.2 and 5.5.1. Frames of a peer are parsed by `websockets`.
"""

from __future__ import annotations

from struct import pack

from websockets.frames import Close, CloseCode, Frame, Opcode

TEXT, BINARY = 1, 2
_FINAL = 0x80
_MAX_REASON_BYTES = 123  # a control frame has 125 bytes, and the code takes two of them

# Headers by opcode and size, up to the size of a token's frame: to make one costs as much as to write it.
PREPARED = 512


def header(opcode: int, size: int) -> bytes:
    """Return the header of a whole unmasked message."""
    if size < 126:
        return pack("!BB", _FINAL | opcode, size)
    if size < 65536:
        return pack("!BBH", _FINAL | opcode, 126, size)
    return pack("!BBQ", _FINAL | opcode, 127, size)


HEADERS = {opcode: [header(opcode, size) for size in range(PREPARED)] for opcode in (TEXT, BINARY)}


def short_reason(reason: str) -> str:
    """Return as much of a reason as a close frame can carry."""
    return reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")


def close_frame(close: Close) -> bytes:
    """Return the close frame that echoes the code and the reason of a peer."""
    payload = b"" if close.code == CloseCode.NO_STATUS_RCVD else close.serialize()
    return Frame(Opcode.CLOSE, payload).serialize(mask=False)


def is_utf8(data: bytes) -> bool:
    """Return whether the payload of a text message is UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
