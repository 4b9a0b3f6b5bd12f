"""Event streams: a session's frames as the response to an HTTP request.

A stream is one more wire. It carries frames down only, in blocks of `SseCodec`. Events of its client come
in requests of their own and are handed to the connection as if the wire had read them.

The format is that of the HTML Living Standard, section 9.2. A block has the event's type, its JSON, and,
for events that move the cursor, an id: the cursor after it, `epoch.seq`. One codec serves all sessions,
so that a log that was written for one stream is read for the next without encoding it again. The epoch
is therefore no part of a frame. A frame with an id starts with the digits of its number, and the wire,
which has one session, puts the start of that line before it; all other frames start with a letter or a
colon.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import json
from starlette.types import Message, Receive, Send

from bargein_protocol import (
    JSON,
    ClientEvent,
    Code,
    Codec,
    Epoch,
    Heartbeat,
    InputId,
    Interrupt,
    InterruptId,
    Numbered,
    ServerEvent,
    UnknownEvent,
)
from bargein_protocol.errors import CLOSED, SLOW_CONSUMER

from ..core.side_channel import Follower, Lagged
from ..guard.admission import Caller
from ..hosting.host import SessionHost
from ..hosting.ports import Writer
from ..hosting.registry import SessionRegistry
from .connection import Connection
from .wires import TaskWire

_DATA = b"\ndata: "
_AFTER_DIGITS = ord(":")


def _head(kind: type[Any]) -> tuple[bytes, str | None, bool]:
    # The line with the type, the field that moves the cursor, and whether 0 means "no number".
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
            DecodeError: The frame is not a client event.
        """
        return JSON.decode_client(frame)

    def decode_server(self, frame: bytes) -> ServerEvent | UnknownEvent:
        """Return the event of a block.

        Raises:
            DecodeError: The block is not from this codec.
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


_HEARTBEAT = SSE.encode(Heartbeat())

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
"""Headers of the response: a proxy must not store, change or delay it."""


def close_block(code: Code) -> bytes:
    """Return the last block of a stream that ends before its turn.

    It has the content of a close frame.
    """
    data = {"number": code.number, "name": code.name, "reason": code.reason, "action": code.action.value}
    return b"event: close\ndata: %s\n\n" % json.encode(data)


PART_BYTES = 64 * 1024
"""Size of the parts in which a large frame leaves: the parts that wait are copies, the frame is shared."""


def _parts(frames: list[bytes], prefix: bytes) -> Iterator[bytes]:
    if sum(map(len, frames)) <= PART_BYTES:
        yield join_blocks(frames, prefix)
        return
    for frame in frames:
        if frame[0] < _AFTER_DIGITS:
            yield prefix
        for start in range(0, len(frame), PART_BYTES):
            yield frame[start : start + PART_BYTES]


class EventStreamWire(TaskWire):
    """A `Wire` on the response to a request.

    Frames are those of `SSE`. They leave while `run` is awaited.

    Args:
        send: The ASGI callable of the request.
    """

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._response = send
        self._prefix = b""
        self._over = False
        self._start: Message | None = None

    @property
    def closed(self) -> Code | None:
        """Code with which the wire was closed."""
        return self._close

    def end(self, code: Code) -> None:
        """End the stream after everything that was written, without a last block.

        The stream is complete: its client asked for nothing more.
        """
        self._over = self._close is None
        self.close(code)

    async def run(self, writer: Writer, epoch: Epoch, headers: Mapping[str, str], receive: Receive) -> None:
        """Respond, and write until the client is gone.

        Cancelling it drops the connection.

        Args:
            writer: The connection.
            epoch: The numbering of the session whose frames are written.
            headers: Headers beside those of every stream.
            receive: The ASGI callable of the request.
        """
        self._prefix = id_prefix(epoch)
        raw = [(name.lower().encode(), value.encode()) for name, value in {**HEADERS, **headers}.items()]
        self._start = {"type": "http.response.start", "status": 200, "headers": raw}
        await self._serve(writer, _disconnect(receive))

    async def _send(self, frames: list[bytes]) -> None:
        await self._begin()
        for body in _parts(frames, self._prefix):
            await self._response({"type": "http.response.body", "body": body, "more_body": True})
        self._sent(sum(map(len, frames)))

    async def _begin(self) -> None:
        start, self._start = self._start, None
        if start is not None:
            await self._response(start)

    async def _send_close(self, code: Code) -> None:
        await self._begin()
        body = b"" if self._over else close_block(code)
        await self._response({"type": "http.response.body", "body": body, "more_body": False})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class StreamConnection(Connection):
    """Connection that drives a session over an event stream.

    Args:
        wire: The response.
        registry: Registry in which the first event finds a session.
        caller: The client.
        until: The input with whose turn the stream ends; None for a stream without an end.
    """

    def __init__(
        self, wire: EventStreamWire, registry: SessionRegistry, caller: Caller, until: InputId | None = None
    ) -> None:
        super().__init__(wire, SSE, registry, caller)
        self._stream = wire
        self._until = until
        registry.streams.add(self)

    @property
    def host(self) -> SessionHost | None:
        """Host of the session that it drives, or drove."""
        return self._host

    def write_out(self) -> None:
        """Write the frames of the core; end the stream after the end of its turn."""
        super().write_out()
        host, until = self._host, self._until
        if host is None or until is None or self._closing or not self.wire.writable:
            return
        if host.core.side_channel.is_over(until):
            self._closing = True
            self._closed_with = CLOSED.name
            self._stream.end(CLOSED)
            host.lost(self)

    def disconnected(self) -> None:
        """Record the end of the request, which may be set to interrupt."""
        self._registry.streams.discard(self)
        host = self._host
        if (
            host is not None
            and host.connection is self
            and self._until is not None
            and host.settings.stream_closed == "interrupt"
        ):
            gone = Interrupt(id=InterruptId(secrets.token_hex(8)), input_id=self._until, reason="client_gone")
            host.core.side_channel.request(gone, host.loop.time())
        super().disconnected()


class FollowerConnection:
    """Event stream of a follower.

    Args:
        wire: The response.
        registry: Registry of all sessions.
        host: Host of the session that is followed.
        follower: Reader of its log.
        sent: Called when its first frames have left.
    """

    def __init__(
        self,
        wire: EventStreamWire,
        registry: SessionRegistry,
        host: SessionHost,
        follower: Follower,
        sent: Callable[[], None] | None = None,
    ) -> None:
        self._sent = sent
        self._wire = wire
        self._host = host
        self._follower = follower
        self._silent = True
        self._ending: Code | None = None
        self._beat = host.loop.call_later(host.settings.heartbeat_s / 2, self._keep_alive)
        host.follow(self)
        self._streams = registry.streams
        self._streams.add(self)
        self._write()

    def writable_again(self) -> None:
        """Write new frames: those that were written have left."""
        if self._wire.writable:
            self._report_sent()
        self._write()

    def drive(self) -> bool:
        """Return False: reading does not count as heard."""
        return False

    def _report_sent(self) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            sent()

    def _write(self) -> None:
        wire = self._wire
        try:
            while wire.writable and (frame := self._follower.next_frame()) is not None:
                self._silent = False
                wire.write([frame])
        except Lagged:
            self._ending = SLOW_CONSUMER
        if self._ending is not None and wire.writable:
            wire.close(self._ending)
            self._stop()

    def close(self, code: Code) -> None:
        """End the stream with a code, after everything that the log has."""
        self._ending = code
        self._write()

    def disconnected(self) -> None:
        """Record the end of the request."""
        self._stop()

    def _keep_alive(self) -> None:
        # Checked twice per interval, so that no gap is longer than one.
        self._beat = self._host.loop.call_later(self._host.settings.heartbeat_s / 2, self._keep_alive)
        if self._silent and self._wire.writable:
            self._wire.write([_HEARTBEAT])
        self._silent = True

    def _stop(self) -> None:
        self._report_sent()
        self._beat.cancel()
        self._host.followers.discard(self)
        self._streams.discard(self)
