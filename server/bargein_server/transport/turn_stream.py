"""Turn streams: one turn in the format of another protocol.

Such a stream reads events as structs and hands them to a translator. It drives its session while no other
connection does, so that its output counts as heard. Otherwise it reads beside the driver, and takes over when
that is gone. It is never cut by a newer connection: it ends with the end of its own turn.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from starlette.types import Message, Receive, Send

from bargein_protocol import (
    MESSAGEPACK,
    Code,
    Cursor,
    InputId,
    Interrupt,
    InterruptId,
    Numbered,
    Seq,
    ServerEvent,
    Snapshot,
    TurnEvent,
    TurnId,
)
from bargein_protocol.errors import CLOSED, INTERNAL, SLOW_CONSUMER

from ..core.side_channel import Follower, Lagged
from ..guard.admission import Caller
from ..hosting.host import SessionHost
from ..hosting.ports import Wire
from ..hosting.registry import SessionRegistry
from .connection import Connection
from .event_stream import HEADERS
from .replayed_turn import events_of
from .wires import TaskWire

_COMMENT = ord(":")

log = logging.getLogger("bargein.connection")


class Translator(Protocol):
    """Translation of one turn into another protocol.

    It is given the events of the turn in order, from the first to `turn.ended`, without gap or repetition.

    Attributes:
        over: Whether the stream is complete: the turn has ended, or the protocol ends its stream earlier.
        heartbeat: Bytes that keep a silent stream open; empty for none.
    """

    over: bool
    heartbeat: bytes

    def read(self, event: TurnEvent) -> Iterator[bytes]:
        """Yield the pieces that an event becomes."""
        ...

    def cut(self, code: Code) -> Iterator[bytes]:
        """Yield the last pieces of a stream that ends before its turn."""
        ...


class EventWire:
    """A `Wire` that hands events to a function, as structs.

    Frames are those of `MESSAGEPACK`, which holds audio without base64.

    Args:
        take: Called with each event, in order. An error of it closes the connection.
        below: The socket whose buffer decides whether output may be written.
        failed: Called after such an error.
    """

    def __init__(
        self, take: Callable[[ServerEvent], None], below: Wire, failed: Callable[[Code], None]
    ) -> None:
        self._take = take
        self._below = below
        self._failed = failed
        self._broken = False

    @property
    def writable(self) -> bool:
        """Whether output may be written."""
        return self._below.writable

    def write(self, frames: Sequence[bytes]) -> None:
        """Hand the events of frames over.

        Never raises, because an agent may be in its callers.
        """
        if self._broken:
            return
        try:
            for frame in frames:
                self._take(MESSAGEPACK.decode_server(frame))  # type: ignore[arg-type]  # our own frames
        except Exception:
            self._broken = True
            log.exception("an event was not translated")
            self._failed(INTERNAL)

    def close(self, code: Code) -> None:
        """Close the socket after everything that was written."""
        self._below.close(code)

    def abort(self) -> None:
        """Drop the socket."""
        self._below.abort()


class TurnStream(Connection):
    """Stream of one turn.

    Args:
        below: The socket: a response, or a part of one that several streams share.
        translator: The translation of the turn.
        registry: Registry of all sessions.
        caller: The client.
        host: The session.
        input_id: The input of the turn.
        interrupts: Whether the client's leaving interrupts the turn. If not, the turn goes on as after a
            lost connection.

    Attributes:
        ended: Done when nothing more is written.
    """

    def __init__(
        self,
        below: Wire,
        translator: Translator,
        registry: SessionRegistry,
        caller: Caller,
        host: SessionHost,
        input_id: InputId,
        *,
        interrupts: bool = False,
    ) -> None:
        super().__init__(EventWire(self._take, below, self._fail), MESSAGEPACK, registry, caller)
        self._stop_open_timer()
        self.ended: asyncio.Future[None] = registry.loop.create_future()
        self._host = host
        self._below = below
        self._translator = translator
        self._input_id = input_id
        self._interrupts = interrupts
        self._turn_id: TurnId | None = None
        self._seq = Seq(0)
        self._follower: Follower | None = None
        self._began = False  # whether the translator was given an event
        self._silent = True
        self._beat = registry.loop.call_later(registry.settings.heartbeat_s / 2, self._keep_alive)
        registry.streams.add(self)

    @property
    def following(self) -> bool:
        """Whether it reads beside the driver of its session."""
        return self._follower is not None

    def start(self, after: Seq) -> None:
        """Read the session from a number on (`OutsideClient.start_of`)."""
        assert self._host is not None
        self._seq = after
        turn = self._host.core.side_channel.turn_of(self._input_id)
        self._turn_id = None if turn is None else turn.turn_id
        if self._host.connection is not None:
            self._follow()
        else:
            self._drive()

    # --- driving and following -------------------------------------------------------------------

    def drive(self) -> bool:
        """Drive the session, which has lost its driver."""
        host = self._host
        if host is None or self._closing or self._follower is None:
            return False
        self._follower = None
        host.followers.discard(self)
        self._drive()
        return True

    def _drive(self) -> None:
        assert self._host is not None
        self._registry.own_ids.drive(self._host, self, MESSAGEPACK, self._seq, self.caller.trace)

    def replaced(self) -> None:
        """Read on beside the newer connection, which drives the session now."""
        if not self._closing:
            self._follow()

    def _follow(self) -> None:
        assert self._host is not None
        side_channel = self._host.core.side_channel
        cursor = Cursor(epoch=side_channel.cursor.epoch, seq=self._seq)
        self._follower = side_channel.follow(MESSAGEPACK, cursor)
        self._host.follow(self)
        self._read_log()

    def writable_again(self) -> None:
        """Write the new frames."""
        if self._follower is None:
            super().writable_again()
        else:
            self._read_log()

    def _read_log(self) -> None:
        follower = self._follower
        try:
            while (
                follower is not None
                and follower is self._follower
                and not self._closing
                and self._below.writable
                and (frame := follower.next_frame()) is not None
            ):
                self.wire.write([frame])
        except Lagged:
            self.close(SLOW_CONSUMER)
        self._end_if_over()

    # --- events ----------------------------------------------------------------------------------

    def write_out(self) -> None:
        """Write the frames of the core; end the stream when it is complete."""
        if self._follower is None:
            super().write_out()
            self._end_if_over()

    def _take(self, event: ServerEvent) -> None:
        if isinstance(event, Snapshot):
            self._seq = max(self._seq, event.through)
            for state in event.turns:
                if state.turn_id != self._turn_id:
                    continue
                if self._began:  # it cannot be continued in the middle, and was not read for long
                    self._fail(SLOW_CONSUMER)
                    return
                for each in events_of(state):
                    self._write(each)
        elif isinstance(event, Numbered) and event.seq > self._seq:
            self._seq = event.seq
            if isinstance(event, TurnEvent) and event.turn_id == self._turn_id:
                self._write(event)

    def _write(self, event: TurnEvent) -> None:
        self._began = True
        if not self._translator.over:
            pieces = [piece for piece in self._translator.read(event) if piece]
            if pieces:
                self._silent = False
                self._below.write(pieces)

    def _end_if_over(self) -> None:
        if self._translator.over and not self._closing:
            self._closing = True
            self._closed_with = CLOSED.name
            self._below.close(CLOSED)
            self._leave()

    def _leave(self) -> None:
        self._beat.cancel()
        if not self.ended.done():
            self.ended.set_result(None)
        self._registry.streams.discard(self)
        host = self._host
        if host is not None:
            self._follower = None
            host.followers.discard(self)
            host.lost(self)

    def _keep_alive(self) -> None:
        # Checked twice per interval, so that no gap is longer than one.
        self._beat = self._registry.loop.call_later(self._registry.settings.heartbeat_s / 2, self._keep_alive)
        if self._silent and self._translator.heartbeat and self._below.writable:
            self._below.write([self._translator.heartbeat])
        self._silent = True

    # --- the end ---------------------------------------------------------------------------------

    def close(self, code: Code) -> None:
        """End the stream before its turn."""
        if self._closing:
            return
        self._closing = True
        self._closed_with = code.name
        if not self._translator.over:
            self._below.write([piece for piece in self._translator.cut(code) if piece])
        self._below.close(code)
        self._leave()

    def _fail(self, code: Code) -> None:
        # Later: the caller is in the middle of a step of the session.
        self._registry.loop.call_soon(self.close, code)

    def disconnected(self) -> None:
        """Record that the client has left, which may be set to interrupt the turn."""
        host = self._host
        if host is not None and self._interrupts and not self._translator.over and not self.lost.done():
            self._closing = True
            gone = Interrupt(id=InterruptId(secrets.token_hex(8)), input_id=self._input_id)
            host.act(host.core.side_channel.request, gone)
        super().disconnected()
        self._leave()


class ResponseWire(TaskWire):
    """A `Wire` on the response to a request.

    Frames leave while `run` is awaited.

    Args:
        send: The ASGI callable of the request.
        frame: Form of a piece in the response, with `%s` in its place; comments stay as they are.
        last: End of the response.
    """

    def __init__(self, send: Send, frame: bytes = b"%s", last: bytes = b"") -> None:
        super().__init__()
        self._response = send
        self._frame = frame
        self._last = last
        self._start: Message | None = None

    async def run(self, stream: TurnStream, headers: Mapping[str, str], receive: Receive) -> None:
        """Respond, and write until the stream is complete or the client is gone.

        Cancelling it drops the connection.
        """
        raw = [(name.lower().encode(), value.encode()) for name, value in {**HEADERS, **headers}.items()]
        self._start = {"type": "http.response.start", "status": 200, "headers": raw}
        self._wanted.set()
        await self._serve(stream, until_left(receive))

    async def _send(self, frames: list[bytes]) -> None:
        await self._begin()
        body = b"".join([piece if piece[0] == _COMMENT else self._frame % piece for piece in frames])
        await self._response({"type": "http.response.body", "body": body, "more_body": True})
        self._sent(sum(map(len, frames)))

    async def _begin(self) -> None:
        start, self._start = self._start, None
        if start is not None:
            await self._response(start)

    async def _send_close(self, code: Code) -> None:
        await self._begin()
        await self._response({"type": "http.response.body", "body": self._last, "more_body": False})


async def until_left(receive: Receive) -> None:
    """Wait until the client of a request is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
