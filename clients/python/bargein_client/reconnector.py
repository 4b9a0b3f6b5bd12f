"""Connection loop of a session: connect, read, write, wait, repeat.

One task reads and hands every event to the core as soon as it arrives; it never waits for a consumer. A
second task per channel writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import bargein_protocol as bp

from .backoff import Backoff
from .channel import Channel, ConnectChannel, Watchdog
from .connection_state import CONNECTING, ConnectionState
from .core import ClientCore
from .environment import Environment
from .errors import (
    AccessDenied,
    BargeinError,
    ChannelClosed,
    ConnectError,
    ConnectionLost,
    ServerViolation,
    SessionClosed,
    SessionReplaced,
)
from .events import Reconnecting
from .phases import Phase

_STABLE_S = 5.0
"""A connection that lived for less does not reset the backoff."""
_MAX_ASKED_S = 60.0
"""Longest delay that a server may ask for."""


class Reconnector:
    """Serves the channels of one session, one after the other.

    Args:
        url: The server's URL, for error messages.
        connect_channel: Opens a channel.
        core: Core of the session.
        environment: Source of randomness and time.
        backoff: Delays between attempts; None to give up when a connection breaks.
        give_up_after_s: The longest outage, in seconds.
        settle: Called after the core has taken in an event, before anything else runs.

    Attributes:
        closing: Whether the application is closing the session; the current channel is then the last.
        state: State of the connection while the session is not open.
    """

    def __init__(
        self,
        url: str,
        connect_channel: ConnectChannel,
        core: ClientCore,
        environment: Environment,
        *,
        backoff: Backoff | None,
        give_up_after_s: float,
        settle: Callable[[], None],
    ) -> None:
        self.closing = False
        self.state: ConnectionState = CONNECTING
        self._url = url
        self._connect_channel = connect_channel
        self._core = core
        self._environment = environment
        self._backoff = backoff
        self._give_up_after_s = give_up_after_s
        self._settle = settle
        self._to_send, self._sent = asyncio.Event(), asyncio.Event()
        self._sent.set()

    def flush(self) -> None:
        """Send the core's outgoing events; call this after each core call."""
        if self._core.has_outgoing:
            self._sent.clear()
            self._to_send.set()

    async def drained(self) -> None:
        """Wait until the channel, if there is one, has the outgoing events."""
        await self._sent.wait()

    async def run(self) -> BargeinError:
        """Serve one channel after the other; return the reason for the end."""
        clock = self._environment.clock
        attempt, last_live = 0, clock()
        while True:
            began = clock()
            closed = await self._serve()
            was_live = self._core.phase is Phase.LIVE
            self._core.detach()
            if was_live:
                last_live = clock()
                attempt = 0 if last_live - began >= _STABLE_S else attempt
            outage = clock() - last_live
            error = self._final_error(closed, outage)
            if error is not None:
                return error
            attempt += 1
            await self._pause(attempt, closed.code.name, self._give_up_after_s - outage)

    async def _pause(self, attempt: int, code: str, most_s: float) -> None:
        delay = min(self._delay(attempt), most_s)
        retry_at = self._environment.clock() + delay
        self.state = ConnectionState(name="reconnecting", attempt=attempt, retry_at=retry_at, code=code)
        self._core.turns.publish(Reconnecting(attempt=attempt, delay_s=delay, code=code))
        await self._environment.sleep(delay)

    def _delay(self, attempt: int) -> float:
        assert self._backoff is not None
        own = self._backoff.delay(attempt, self._environment.random)
        asked, self._core.reconnect_after_s = self._core.reconnect_after_s, None
        if asked is None:
            return own
        # The server spreads its clients itself. One that sends each connection away again is not asked
        # more often for that.
        return min(max(asked, own) if attempt > 1 else asked, _MAX_ASKED_S)

    def _final_error(self, closed: ChannelClosed, outage_s: float) -> BargeinError | None:
        """Return the error that ends the session; None to connect again.

        A code with the action `retry` asks for a fresh session. The client tries to resume the old one
        anyway: the server refuses with a reason, and nothing is lost if the session still exists.
        """
        code = closed.code
        if self.closing:
            return SessionClosed(code=code)
        if self._core.limits is None:  # no connection has opened the session
            given = code if closed.status is None and code is not bp.errors.ABNORMAL else None
            return ConnectError(self._url, closed.why, code=given, status=closed.status)
        if code is bp.errors.CLOSED:
            return SessionClosed("the server closed the session", code)
        if code is bp.errors.REPLACED:
            return SessionReplaced(code.reason, code)
        if code in (bp.errors.UNAUTHORIZED, bp.errors.FORBIDDEN):
            return AccessDenied(code.reason, code)
        if closed.final or self._backoff is None:
            return ConnectionLost(closed.why, code)
        if outage_s >= self._give_up_after_s:
            return ConnectionLost(f"no connection for {outage_s:.0f} s: {closed.why}", code)
        return None

    async def _serve(self) -> ChannelClosed:
        """Connect, then read until the channel closes; return the reason."""
        try:
            channel = await self._connect_channel()
        except ChannelClosed as closed:
            return closed
        core = self._core
        core.attach()
        watchdog = Watchdog(channel, lambda: core.phase is not Phase.OPENING, lambda: 2 * core.heartbeat_s)
        writer = asyncio.create_task(self._write(channel), name="bargein-writer")
        try:
            return await self._read(channel, watchdog)
        finally:
            watchdog.stop()
            writer.cancel()
            channel.abort()
            await asyncio.wait([writer])
            await channel.wait_closed()
            if not writer.cancelled() and (unforeseen := writer.exception()) is not None:
                raise unforeseen

    async def _read(self, channel: Channel, watchdog: Watchdog) -> ChannelClosed:
        """Hand every event to the core as soon as it arrives."""
        self.flush()
        try:
            while True:
                event = await channel.receive()
                self._core.receive(event)
                if isinstance(event, bp.SessionOpened):
                    watchdog.reset()
                self._settle()
                self.flush()
        except ChannelClosed as closed:
            return closed
        except ServerViolation as violation:
            return ChannelClosed(bp.errors.ABNORMAL, str(violation))

    async def _write(self, channel: Channel) -> None:
        try:
            while True:
                await self._to_send.wait()
                self._to_send.clear()
                for event in self._core.outgoing():
                    await channel.send(event)
                self._sent.set()
        except ChannelClosed:
            pass  # the reader gets the same error, after all events that came before
        except Exception:
            channel.abort()  # `_serve` raises it
            raise
        finally:
            self._sent.set()  # the events that are left belong to the next channel
