"""One socket of a client: frames in, frames out.

Both directions are plain functions, called in the step in which something happened. `receive` is
called with each whole message as it is read and never waits for a send, a tool or a turn (contract
12); `write_out` takes frames from the core while the wire takes them.
"""

from __future__ import annotations

import asyncio
import logging

from bargein_protocol import (
    MAX_PENDING,
    ClientEvent,
    Code,
    Codec,
    DecodeError,
    ErrorEvent,
    InputText,
    Interrupt,
    SessionOpen,
)
from bargein_protocol.errors import (
    FLOODED,
    INTERNAL,
    OPEN_TIMEOUT,
    OVERLOADED,
    REPLACED,
    SLOW_CONSUMER,
    UNAUTHORIZED,
    WRONG_CODEC,
    Action,
)

from ..guard.admission import Caller, anonymous
from ..guard.rates import TokenBucket
from ..hosting.host import SessionHost
from ..hosting.registry import SessionRegistry
from .wire import Wire

log = logging.getLogger("bargein.connection")

# What is handed to the transport at once. Beyond it the rest stays where an interrupt can purge it.
WRITE_BYTES = 16 * 1024

# A client that resumes sends at once what it got no answer to. That is no flood: counted as one, it would
# be closed, resume, and send the same again, for ever. Requests, tool results, playback, and metadata.
RESENT_MESSAGES = 3 * MAX_PENDING


class Connection:
    """See the module.

    Args:
        wire: The socket, after its handshake.
        codec: What its frames are encoded in.
        sessions: Where its first frame finds a session.
        visitor: Who is at the other end; None for anybody.

    Attributes:
        lost: Done when the socket is gone.
        number: A newer connection has a higher one.
        wire: The socket.
    """

    def __init__(
        self, wire: Wire, codec: Codec, sessions: SessionRegistry, caller: Caller | None = None
    ) -> None:
        self.lost = sessions.loop.create_future()
        self.number = next(sessions.connection_numbers)
        self.wire = wire
        self._codec = codec
        self._sessions = sessions
        self._live: SessionHost | None = None
        self._foretold: list[bytes] | None = None  # what was written and the core is about to say
        self._closing = False
        self._closed_with = "peer"
        self._past_full = 0  # bytes of answers that were written since the buffer is full
        self._visitor = caller if caller is not None else anonymous()
        # A quarter of what may be in flight, so that its cap is passed by little.
        self._write_bytes = min(WRITE_BYTES, sessions.settings.in_flight_bytes // 4 or WRITE_BYTES)
        now = sessions.loop.time()
        self._messages = TokenBucket(sessions.settings.messages_per_s, now)
        self._bytes = TokenBucket(sessions.settings.bytes_per_s, now)
        self._open_timer: asyncio.TimerHandle | None = sessions.loop.call_later(
            sessions.settings.open_s, self._not_opened
        )
        sessions.telemetry.connected()

    # --- in --------------------------------------------------------------------------------------

    def receive(self, frame: bytes, text: bool) -> None:
        """Take a whole message, in the step in which it was read."""
        if self._closing:
            return
        try:
            self._receive(frame, text)
        except Exception:
            # The boundary to the client: a fault of ours ends this connection and no other.
            log.exception("connection failed")
            self.close(INTERNAL)
        # Counted when it is answered: an interrupt does not wait for that, and one too many is heard, too.
        now = self._sessions.loop.time()
        if not (self._messages.take(1, now) and self._bytes.take(len(frame), now)):
            self.close(FLOODED)

    def _receive(self, frame: bytes, text: bool) -> None:
        if text is not self._codec.text:
            self._reject(DecodeError(WRONG_CODEC, WRONG_CODEC.reason))
            return
        try:
            event = self._codec.decode_client(frame)
        except DecodeError as error:
            self._reject(error)
            return
        self._act(event)

    def take(self, event: ClientEvent) -> None:
        """Take an event that an endpoint has decoded and counted."""
        try:
            if not self._closing:
                self._act(event)
        except Exception:
            log.exception("connection failed")
            self.close(INTERNAL)

    def _act(self, event: ClientEvent) -> None:
        live, wire = self._live, self.wire
        if live is None:
            self._open(event)
            return
        try:
            utterance = live.utterance
            if utterance is not None and type(event) is Interrupt and wire.writable and not wire.late:
                # Written before the session is asked: who interrupts waits for nothing else.
                foretold = self._foretold = utterance.foretell(event)
                if foretold is not None:
                    wire.write(foretold)
        finally:  # whatever becomes of the socket, the turn comes to its end
            self._pass_on(live, event)

    def _pass_on(self, live: SessionHost, event: ClientEvent) -> None:
        core = live.core
        answered_soon = type(event) is InputText and not core.busy
        core.receive(event, live.loop.time())
        if self._foretold is not None:
            raise RuntimeError("the end of a turn was foretold and did not come")
        if answered_soon:
            live.changed_soon()
        else:
            live.changed()

    def _open(self, event: ClientEvent) -> None:
        first = event if isinstance(event, SessionOpen) else SessionOpen()
        self._stop_open_timer()
        if not self._visitor.introduce(first.auth):
            self.close(UNAUTHORIZED)
            return
        who = self._visitor
        live = self._live = self._sessions.open(first, self, self._codec, who.principal, who.trace)
        if live is None:
            self.close(OVERLOADED)
            return
        if first.resume is not None:
            self._messages.add_once(RESENT_MESSAGES)
            self._bytes.add_once(RESENT_MESSAGES * self._sessions.settings.frame_bytes)
        if first is not event:
            live.core.receive(event, live.loop.time())
        live.changed()

    def _reject(self, error: DecodeError) -> None:
        if self._live is not None:
            self._live.core.reject_frame(error.code, error.detail, error.ref_id)
            self._live.changed()
        else:
            event = ErrorEvent(
                code=error.code.name,
                message=error.detail,
                ref_id=error.ref_id,
                retryable=error.code.action is Action.RETRY,
            )
            self.wire.write([self._codec.encode(event)])

    # --- out -------------------------------------------------------------------------------------

    def write_out(self) -> None:
        """Hand over what the core has: output while the wire takes it, answers past a full buffer."""
        if self._closing or self._live is None:
            return
        wire, delivery = self.wire, self._live.core.delivery
        frames: list[bytes] = []
        size = 0
        writable = wire.writable
        while more := delivery.next_frames(writable, self._write_bytes - size):
            frames += more
            size += (more_bytes := sum(map(len, more)))
            if not writable:
                self._past_full += more_bytes
            if size >= self._write_bytes:
                wire.write(frames)
                frames, size = [], 0
                writable = wire.writable
        if frames:
            wire.write(frames)
        if self._past_full > self._sessions.settings.answer_bytes:
            log.warning("connection aborted: the client does not read its answers")
            self._closing = True
            self._closed_with = SLOW_CONSUMER.name
            wire.abort()
            self._live.lost(self)

    def hand_over(self, frames: list[bytes]) -> None:
        """Write frames that wait for nothing, past a full buffer too."""
        foretold, self._foretold = self._foretold, None
        if foretold is not None:
            if frames != foretold:
                log.error("connection failed: the end of a turn was foretold in other words")
                self._sessions.loop.call_soon(self.close, INTERNAL)
            return
        try:
            if not self._closing:
                if not self.wire.writable:
                    self._past_full += sum(map(len, frames))
                self.wire.write(frames)
        except Exception:
            # Whoever ends a turn must come to its end. The fault is this connection's alone.
            log.exception("connection failed")
            self._sessions.loop.call_soon(self.close, INTERNAL)

    def writable_again(self) -> None:
        """Go on writing: the wire's buffer has drained."""
        self._past_full = 0
        if self._live is not None and self._live.connection is self:
            self._live.changed()

    # --- the end ---------------------------------------------------------------------------------

    def close(self, code: Code) -> None:
        """End the connection with a code; the session lives on."""
        if not self._closing:
            self._closing = True
            self._closed_with = code.name
            self._stop_open_timer()
            self.wire.close(code)
            if self._live is not None:
                # A peer that does not read may take long to go; its session does not wait for that.
                self._live.lost(self)

    def replaced(self) -> None:
        """End the connection: a newer one drives the session now."""
        self.close(REPLACED)

    def disconnected(self) -> None:
        """Take note that the socket is gone."""
        self._closing = True
        self._stop_open_timer()
        if not self.lost.done():
            self.lost.set_result(None)
            self._sessions.telemetry.disconnected(self._closed_with)
        if self._live is not None:
            self._live.lost(self)

    def _not_opened(self) -> None:
        self._open_timer = None
        self.close(OPEN_TIMEOUT)

    def _stop_open_timer(self) -> None:
        if self._open_timer is not None:
            self._open_timer.cancel()
            self._open_timer = None
