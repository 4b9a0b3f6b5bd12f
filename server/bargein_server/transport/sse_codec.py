"""Codec of event streams: an event becomes a block of `text/event-stream`.

The format is that of the HTML Living Standard, section 9.2. A block has the event's type, its JSON, and,
for events that move the cursor, an id: the cursor after it, `epoch.seq`. One codec serves all sessions,
so that a log that was written for one stream is read for the next without encoding it again. The epoch
is therefore no part of a frame. A frame with an id starts with the digits of its number, and the wire,
which has one session, puts the start of that line before it; all other frames start with a letter or a
colon.
"""

from __future__ import annotations

from typing import Any

from bargein_protocol import (
    JSON,
    ClientEvent,
    Codec,
    Epoch,
    Heartbeat,
    Numbered,
    ServerEvent,
    UnknownEvent,
)

_DATA = b"\ndata: "
_AFTER_DIGITS = ord(":")


def _head(kind: type[Any]) -> tuple[bytes, str | None, bool]:
    # The line of the type, the field that moves the cursor, and whether 0 stands for "no number".
    line = b"event: %s\ndata: " % str(kind.__struct_config__.tag).encode()
    for field in ("seq", "through"):
        if field in kind.__struct_fields__:
            return line, field, issubclass(kind, Numbered)
    return line, None, False


_HEADS = {kind: _head(kind) for kind in ServerEvent.__args__}


class SseCodec:
    """Blocks of `text/event-stream`, without the epoch of their ids.

    Events of clients come as JSON, in requests of their own.
    """

    subprotocol = JSON.subprotocol
    text = True

    def encode(self, event: ClientEvent | ServerEvent) -> bytes:
        """Return the block of a server's event.

        A heartbeat becomes a comment: it keeps the connection open, and a client ignores it.

        Raises:
            TypeError: A value has no form on the wire, or the event is a client's.
        """
        if type(event) is Heartbeat:
            return b": heartbeat\n\n"
        head = _HEADS.get(type(event))
        if head is None:
            raise TypeError(f"expected an event of a server, got {type(event).__name__}")
        line, field, zero_is_none = head
        seq = getattr(event, field) if field is not None else None
        if seq is None or (zero_is_none and not seq):
            return b"%s%s\n\n" % (line, JSON.encode(event))
        return b"%d\n%s%s\n\n" % (seq, line, JSON.encode(event))

    def decode_client(self, frame: bytes) -> ClientEvent:
        """Return the event of a client.

        Raises:
            DecodeError: The frame is no client event.
        """
        return JSON.decode_client(frame)

    def decode_server(self, frame: bytes) -> ServerEvent | UnknownEvent:
        """Return the event of a block.

        Raises:
            DecodeError: The block is none of this codec.
        """
        return JSON.decode_server(frame.partition(_DATA)[2].removesuffix(b"\n\n"))


SSE: Codec = SseCodec()


def id_prefix(epoch: Epoch) -> bytes:
    """Return the start of the id of all blocks of a session."""
    return b"id: %s." % epoch.encode()


def join_blocks(frames: list[bytes], prefix: bytes) -> bytes:
    """Return frames of `SSE` as a part of a stream, with whole ids.

    Args:
        frames: The frames.
        prefix: The start of their ids (`id_prefix`).
    """
    return b"".join([prefix + frame if frame[0] < _AFTER_DIGITS else frame for frame in frames])
