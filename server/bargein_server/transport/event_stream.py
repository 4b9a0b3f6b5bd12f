"""Server-Sent Events: a session's frames as `text/event-stream` (HTML Living Standard, section 9.2).

A stream is one more wire. It carries frames down only; what its client sends comes in requests of
their own and is handed to the connection as if the wire had read it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping

from msgspec import json
from starlette.types import Message, Receive, Send

from bargein_protocol import JSON, Code, Epoch, Heartbeat, InputId, Interrupt, InterruptId
from bargein_protocol.errors import CLOSED, SLOW_CONSUMER

from ..core.side_channel import Follower, Lagged
from ..guard.admission import Caller
from ..hosting.host import SessionHost
from ..hosting.registry import SessionRegistry
from .asgi_wire import TaskWire
from .connection import Connection
from .wire import Writer

# Our own encoder writes the type first, and then the number of what has one.
_HEAD = re.compile(rb'\{"type":"([a-z_.]+)"(?:,"seq":(\d+))?')

_HEARTBEAT = JSON.encode(Heartbeat())

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
"""Proxies must neither keep, change, nor hold back what is written."""


def event_block(frame: bytes, epoch: Epoch) -> bytes:
    """Return a frame of JSON as an event of a stream.

    Its id is the cursor after it, for those that move the cursor. A heartbeat becomes a comment: it
    keeps the line open and wakes nobody.
    """
    head = _HEAD.match(frame)
    assert head is not None, "a frame that our own encoder did not write"
    kind, seq = head.groups()
    if kind == b"heartbeat":
        return b": heartbeat\n\n"
    cursor = b"" if seq is None else b"id: %s.%s\n" % (epoch.encode(), seq)
    return b"event: %s\n%sdata: %s\n\n" % (kind, cursor, frame)


def close_block(code: Code) -> bytes:
    """Return the last event of a stream that ends before its turn does: what a close frame says."""
    told = {"number": code.number, "name": code.name, "reason": code.reason, "action": code.action.value}
    return b"event: close\ndata: %s\n\n" % json.encode(told)


class EventStreamWire(TaskWire):
    """A `Wire` on the response to a request; `run` must be awaited for frames to leave.

    Args:
        send: The ASGI callable of the request.

    Attributes:
        epoch: Of the session whose frames they are; known before `run`.
        closed: The code that it was closed with.
    """

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._response = send
        self.epoch = Epoch("")
        self._over = False
        self._start: Message | None = None

    @property
    def closed(self) -> Code | None:
        """See the class."""
        return self._close

    def end(self, code: Code) -> None:
        """End the stream after everything that was written, without a word: it was all that was asked for."""
        self._over = self._close is None
        self.close(code)

    async def run(self, writer: Writer, headers: Mapping[str, str], receive: Receive) -> None:
        """Answer, and write until the client is gone. Cancelling it drops the connection."""
        raw = [(name.lower().encode(), value.encode()) for name, value in {**HEADERS, **headers}.items()]
        self._start = {"type": "http.response.start", "status": 200, "headers": raw}
        await self._serve(writer, _disconnect(receive))

    async def _send(self, frames: list[bytes]) -> None:
        await self._begin()
        body = b"".join([event_block(frame, self.epoch) for frame in frames])
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
    """A connection that drives a session over an event stream.

    Args:
        wire: The response.
        sessions: Where its first frame finds a session.
        visitor: Who is at the other end.
        until: The input with whose turn the stream ends; None for one that goes on.
    """

    def __init__(
        self, wire: EventStreamWire, sessions: SessionRegistry, caller: Caller, until: InputId | None = None
    ) -> None:
        super().__init__(wire, JSON, sessions, caller)
        self._stream = wire
        self._until = until
        sessions.streams.add(self)

    @property
    def live(self) -> SessionHost | None:
        """The session that it drives, or drove."""
        return self._live

    def write_out(self) -> None:
        """Hand over what the core has; with the last of the turn that was asked for the stream ends."""
        super().write_out()
        live, until = self._live, self._until
        if live is None or until is None or self._closing or not self.wire.writable:
            return
        if live.core.side_channel.is_over(until):
            self._closing = True
            self._closed_with = CLOSED.name
            self._stream.end(CLOSED)
            live.lost(self)

    def disconnected(self) -> None:
        """Take note that the request is gone: a lost client, or an interrupt where the settings say so."""
        self._sessions.streams.discard(self)
        live = self._live
        if (
            live is not None
            and live.connection is self
            and self._until is not None
            and live.settings.stream_closed == "interrupt"
        ):
            gone = Interrupt(id=InterruptId(secrets.token_hex(8)), input_id=self._until, reason="client_gone")
            live.core.side_channel.ask(gone, live.loop.time())
        super().disconnected()


class FollowerConnection:
    """A follower's event stream.

    Args:
        wire: The response.
        sessions: All of them.
        live: The one that is followed.
        follower: What reads it.
    """

    def __init__(
        self, wire: EventStreamWire, sessions: SessionRegistry, live: SessionHost, follower: Follower
    ) -> None:
        self._wire = wire
        self._live = live
        self._follower = follower
        self._silent = True
        self._ending: Code | None = None
        self._beat = live.loop.call_later(live.settings.heartbeat_s / 2, self._keep_alive)
        live.follow(self)
        self._streams = sessions.streams
        self._streams.add(self)
        self.writable_again()

    def writable_again(self) -> None:
        """Hand over what is new while the wire takes it."""
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
        self.writable_again()

    def disconnected(self) -> None:
        """Take note that the request is gone."""
        self._stop()

    def _keep_alive(self) -> None:
        # Looked at twice per interval, so that no gap is longer than one.
        self._beat = self._live.loop.call_later(self._live.settings.heartbeat_s / 2, self._keep_alive)
        if self._silent and self._wire.writable:
            self._wire.write([_HEARTBEAT])
        self._silent = True

    def _stop(self) -> None:
        self._beat.cancel()
        self._live.followers.discard(self)
        self._streams.discard(self)
