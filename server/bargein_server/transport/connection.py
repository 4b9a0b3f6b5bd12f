"""Connection: one socket of a client, with frames in both directions.

Both directions are plain functions, called in the callback of their event. `receive` is called with each
whole message as it is read and never waits for a send, a tool or a turn (contract 12); `write_out` takes
frames from the core while the wire is writable.
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
    SessionOpen,
    SessionUpdate,
)
from bargein_protocol.errors import (
    FLOODED,
    INTERNAL,
    OPEN_TIMEOUT,
    OVERLOADED,
    REPLACED,
    SHARE_USED,
    SLOW_CONSUMER,
    TOO_BIG,
    UNAUTHORIZED,
    WRONG_CODEC,
    Action,
)

from ..guard.admission import Caller, anonymous
from ..guard.limits import RareLog, TokenBucket
from ..hosting.elsewhere import Elsewhere, Relay
from ..hosting.host import SessionHost
from ..hosting.ports import Wire
from ..hosting.registry import SessionRegistry

log = logging.getLogger("bargein.connection")
rare_log = RareLog(log)

# Maximum size of one write, in bytes. The rest stays in the core, where an interrupt can purge it.
WRITE_BYTES = 16 * 1024

# Maximum size of the writes of one step. A client that reads as fast as the server writes never makes the
# wire full, so a long output would delay all other sessions (contract 12).
STEP_BYTES = 128 * 1024

# A client that resumes sends all its requests without an answer again: inputs and interrupts, tool results,
# playback, and metadata. If they counted against its rate, it would be closed, resume and send them forever.
RESENT_MESSAGES = 3 * MAX_PENDING


class Connection:
    """Connection that drives a session over a wire.

    Args:
        wire: The socket, after its handshake.
        codec: Codec of its frames.
        registry: Registry in which the first frame finds a session.
        caller: The client; None for an anonymous one.
        came_at: When it came, on the event loop's clock, if another process has handed it over.

    Attributes:
        lost: Done when the socket is gone.
        number: A newer connection has a higher one.
        came_at: Time at which it came, on the event loop's clock.
        wire: The socket.
        codec: Codec of its frames.
        caller: The client.
        early: Messages that came while its session is searched: bytes, and whether each is text.
        kept: Whether a store keeps a session that it opens.
    """

    kept = True

    def __init__(
        self,
        wire: Wire,
        codec: Codec,
        registry: SessionRegistry,
        caller: Caller | None = None,
        came_at: float | None = None,
    ) -> None:
        self.lost = registry.loop.create_future()
        now = registry.loop.time()
        arrivals = registry.arrivals
        self.number = arrivals.next(now) if came_at is None else arrivals.earlier(came_at)
        self.came_at = now if came_at is None else came_at
        self.wire = wire
        self.codec = codec
        self._registry = registry
        self._host: SessionHost | None = None
        # Both are None when an endpoint has found the session, and the second one when a process has.
        self._restorer = registry.restorer
        self._elsewhere: Elsewhere | None = registry.elsewhere if came_at is None else None
        self._preparing: asyncio.Task[None] | None = None
        self.early: list[tuple[bytes, bool]] | None = None  # frames that came while it prepares
        self._relay: Relay | None = None  # another process serves the client
        self._closing = False
        self._closed_with = "peer"
        self._rest_due = False  # whether `_write_rest` is scheduled
        self._max_frame_bytes = registry.settings.max_frame_bytes
        self._past_full = 0  # bytes of answers written since the buffer became full
        self.caller = caller if caller is not None else anonymous()
        # A quarter of the cap on bytes in flight, so that a write exceeds the cap by little.
        self._write_bytes = min(WRITE_BYTES, registry.settings.max_in_flight_bytes // 4 or WRITE_BYTES)
        self._messages = TokenBucket(registry.settings.max_messages_per_s, now)
        self._bytes = TokenBucket(registry.settings.max_bytes_per_s, now)
        self._open_timer: asyncio.TimerHandle | None = registry.loop.call_later(
            registry.settings.first_frame_s, self._not_opened
        )
        registry.telemetry.connected()

    # --- in --------------------------------------------------------------------------------------

    def receive(self, frame: bytes, text: bool) -> None:
        """Take a whole message, in the callback that read it."""
        if self._closing:
            return
        if len(frame) > self._max_frame_bytes:  # a server with a limit of its own may let it through
            self.close(TOO_BIG)
            return
        if self.early is not None or self._relay is not None:
            self._pass_on(frame, text)
            return
        try:
            if text is not self.codec.text:
                raise DecodeError(WRONG_CODEC, WRONG_CODEC.reason)
            event, host = self.codec.decode_client(frame), self._host
            if host is None or type(event) is InputText or type(event) is SessionUpdate:
                self._act(event)
            else:
                host.act(host.core.receive, event)
        except DecodeError as error:
            self._reject(error)
        except Exception:
            # The boundary to the client: a fault of the server ends this connection alone.
            log.exception("connection failed")
            self.close(INTERNAL)
        # The message is counted after it was handled: an interrupt does not wait for that, and the message
        # that exceeds the rate takes effect as well.
        now = self._registry.loop.time()
        if not (self._messages.take(1, now) and self._bytes.take(len(frame), now)):
            rare_log.warning(
                "a connection is closed because its client sends too much: raise --max-messages-per-s or "
                "--max-bytes-per-s"
            )
            self.close(FLOODED)

    def take(self, event: ClientEvent, *, found: bool = True) -> None:
        """Take a counted event of an endpoint that may have found its session."""
        if found:
            self._restorer = self._elsewhere = None
        try:
            if not self._closing:
                self._act(event)
        except Exception:
            log.exception("connection failed")
            self.close(INTERNAL)

    def _act(self, event: ClientEvent) -> None:
        host = self._host
        if host is None:
            self._open(event)
        elif type(event) is InputText and not host.core.busy:
            host.act_soon(host.core.receive, event)
        else:
            host.act(host.core.receive, event)
            if type(event) is InputText or type(event) is SessionUpdate:
                self._registry.weigh(host)  # the input may wait in the queue

    def _open(self, event: ClientEvent) -> None:
        first = event if isinstance(event, SessionOpen) else SessionOpen()
        self._stop_open_timer()
        waits = self.caller.must_wait(first.auth)
        if not self.caller.known and not waits:
            self.close(UNAUTHORIZED)
            return
        if waits or self._must_search(first):
            self.early = []
            prepared = self._prepare(first, event)
            self._preparing = self._registry.loop.create_task(prepared, name="prepare session")
            return
        self._attach(first, event)

    def _must_search(self, first: SessionOpen) -> bool:
        """Return whether the session may be in another process or the store."""
        if (resume := first.resume) is None:
            return False
        if self._restorer is not None:
            return self._restorer.is_needed(resume.session_id, resume, self.caller.principal)
        return self._elsewhere is not None and self._elsewhere.may_have(resume.session_id)

    async def _prepare(self, first: SessionOpen, event: ClientEvent) -> None:
        """Authenticate, and find the session; frames wait in order meanwhile."""
        try:
            refused = await self.caller.refusal(first.auth)
            if refused is None and not self._closing and self._must_search(first):
                if self._elsewhere is not None and await self._elsewhere.take(self, first):
                    return
                if self._restorer is not None:
                    who = self.caller.principal
                    refused = await self._restorer.restore_resumed(first.resume, who, self.came_at)
            early, self.early = self.early or [], None
            if refused is not None:
                self.close(refused)
            if self._closing:
                return
            self._attach(first, event)
            for frame, text in early:
                self._receive_early(frame, text)
        except Exception:
            log.exception("connection failed")
            self.close(INTERNAL)

    def _pass_on(self, frame: bytes, text: bool) -> None:
        """Keep a message until the session is found, or give it to its process."""
        now = self._registry.loop.time()
        held = 0 if self.caller.known else sum(len(early) for early, _ in self.early or ()) + len(frame)
        fits = held <= self._max_frame_bytes
        if not (fits and self._messages.take(1, now) and self._bytes.take(len(frame), now)):
            self.close(FLOODED)
        elif self._relay is not None:
            self._relay.append((frame, text))
        elif self.early is not None:
            self.early.append((frame, text))

    def relay_to(self, relay: Relay) -> None:
        """Pass everything on to another process from now on."""
        self._allow_resent()
        for message in self.early or ():
            relay.append(message)
        self.early, self._relay = None, relay

    def moved(self) -> None:
        """Record that another process has the socket."""
        self._closing = True
        self._closed_with = "moved"

    @property
    def is_closing(self) -> bool:
        """Whether the connection has ended, or ends."""
        return self._closing

    def _allow_resent(self) -> None:
        self._messages.add_once(RESENT_MESSAGES)
        self._bytes.add_once(RESENT_MESSAGES * self._registry.settings.max_frame_bytes)

    def _receive_early(self, frame: bytes, text: bool) -> None:
        if not self._closing:
            try:
                if text is not self.codec.text:
                    raise DecodeError(WRONG_CODEC, WRONG_CODEC.reason)
                self._act(self.codec.decode_client(frame))
            except DecodeError as error:
                self._reject(error)

    def _attach(self, first: SessionOpen, event: ClientEvent) -> None:
        caller = self.caller
        host = self._host = self._registry.open(
            first, self, self.codec, caller.principal, caller.trace, caller.owner
        )
        if host is None:
            self.close(SHARE_USED if self._registry.share_used(caller.owner) else OVERLOADED)
            return
        if first.resume is not None:
            self._allow_resent()
        if first is not event:
            host.core.receive(event, host.loop.time())
        host.flush()

    def _reject(self, error: DecodeError) -> None:
        if self._host is not None:
            self._host.core.reject_frame(error.code, error.detail, error.ref_id)
            self._host.flush()
        else:
            event = ErrorEvent(
                code=error.code.name,
                message=error.detail,
                ref_id=error.ref_id,
                retryable=error.code.action is Action.RETRY,
            )
            self.wire.write([self.codec.encode(event)])

    # --- out -------------------------------------------------------------------------------------

    def write_out(self) -> None:
        """Write the frames of the core: answers always, output while writable."""
        if self._closing or self._host is None:
            return
        wire, output = self.wire, self._host.core.output
        frames: list[bytes] = []
        size = written = 0
        writable = wire.writable
        while more := output.next_frames(writable, self._write_bytes - size):
            frames += more
            size += (more_bytes := sum(map(len, more)))
            if not writable:
                self._past_full += more_bytes
            if size >= self._write_bytes:
                wire.write(frames)
                written += size
                frames, size = [], 0
                writable = wire.writable
                if written >= STEP_BYTES:
                    self._write_rest_later()
                    break
        if frames:
            wire.write(frames)
        if self._past_full > self._registry.settings.max_queued_answer_bytes:
            log.warning("connection aborted: the client does not read its answers")
            self._closing = True
            self._closed_with = SLOW_CONSUMER.name
            wire.abort()
            self._host.lost(self)

    def _write_rest_later(self) -> None:
        if not self._rest_due:
            self._rest_due = True
            self._registry.loop.call_soon(self._write_rest)

    def _write_rest(self) -> None:
        self._rest_due = False
        if self._host is not None and self._host.connection is self:
            self._host.flush()

    def hand_over(self, frames: list[bytes]) -> None:
        """Write frames that must not wait, past a full buffer too."""
        try:
            if not self._closing:
                if not self.wire.writable:
                    self._past_full += sum(map(len, frames))
                self.wire.write(frames)
        except Exception:
            # The caller is ending a turn and must complete that; the fault ends this connection alone.
            log.exception("connection failed")
            self._registry.loop.call_soon(self.close, INTERNAL)

    def writable_again(self) -> None:
        """Continue writing, because the wire's buffer has drained."""
        self._past_full = 0
        if self._relay is not None:
            self._relay.writable_again()
        elif self._host is not None and self._host.connection is self:
            self._host.flush()

    # --- the end ---------------------------------------------------------------------------------

    def close(self, code: Code) -> None:
        """End the connection with a code; the session lives on."""
        if not self._closing:
            self._closing = True
            self._closed_with = code.name
            self._stop_open_timer()
            self.wire.close(code)
            if self._host is not None:
                # A peer that does not read may close late; its session does not wait for that.
                self._host.lost(self)

    def replaced(self) -> None:
        """End the connection, because a newer one drives the session."""
        self.close(REPLACED)

    def hung_up(self) -> None:
        """Record that the socket takes no more output.

        Output for a client that is away goes to the log, instead of waiting as for a slow client.
        """
        self._closing = True
        self._stop_open_timer()
        if self._relay is not None:
            self._relay.close()
        if self._preparing is not None and not self.caller.known:
            self._preparing.cancel()  # no authenticator works for a client that has left
        if self._host is not None:
            self._host.lost(self)

    def disconnected(self) -> None:
        """Record that the socket is gone."""
        if not self.lost.done():
            self.lost.set_result(None)
            self._registry.telemetry.disconnected(self._closed_with)
        self.hung_up()

    def _not_opened(self) -> None:
        self._open_timer = None
        self.close(OPEN_TIMEOUT)

    def _stop_open_timer(self) -> None:
        if self._open_timer is not None:
            self._open_timer.cancel()
            self._open_timer = None
