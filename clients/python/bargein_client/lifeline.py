"""Keeps a session connected: dials, reads, writes, waits, and dials again.

One task owns the line. It reads, hands every event to the core in the step in which it comes, and
never waits for a consumer. A second one per connection writes.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import bargein_protocol as bp

from .backoff import Backoff
from .connection import Dial, Line, Watchdog
from .core import ClientCore
from .errors import (
    AccessDenied,
    BargeinError,
    ConnectError,
    ConnectionLost,
    LineEnded,
    ServerViolation,
    SessionClosed,
    SessionReplaced,
)
from .events import Reconnecting
from .phases import Phase

_STABLE_S = 5.0
"""A connection that lived for less does not count as a success of reconnecting."""


def _new_id() -> str:
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Environment:
    """Where ids, chance and time come from; tests bring their own.

    Args:
        new_id: Makes an id that is unique in the session.
        random: Gives a number from 0 to below 1.
        sleep: Waits for some seconds.
        clock: Gives a time in seconds that never goes back.
    """

    new_id: Callable[[], str] = _new_id
    random: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic


class Lifeline:
    """The connections of one session, one after the other.

    Args:
        url: For messages.
        dial: Makes a connection.
        core: The session.
        environment: Where chance and time come from.
        backoff: How long to wait before each attempt; None to give up when the line breaks.
        give_up_after_s: How long to try in one outage, in seconds.
        settle: Called in the step of each event, after the core has taken it in.

    Attributes:
        closing: This side wants the session to end; the next end of a line is the last.
    """

    def __init__(
        self,
        url: str,
        dial: Dial,
        core: ClientCore,
        environment: Environment,
        *,
        backoff: Backoff | None,
        give_up_after_s: float,
        settle: Callable[[], None],
    ) -> None:
        self.closing = False
        self._url = url
        self._dial = dial
        self._core = core
        self._environment = environment
        self._backoff = backoff
        self._give_up_after_s = give_up_after_s
        self._settle = settle
        self._to_send = asyncio.Event()

    def flush(self) -> None:
        """Send what the core wants to send; called after each call of the core."""
        if self._core.has_outgoing:
            self._to_send.set()

    async def run(self) -> BargeinError:
        """Serve one line after the other; return why there is no further one."""
        clock = self._environment.clock
        attempt, last_live = 0, clock()
        while True:
            began = clock()
            ended = await self._serve()
            was_live = self._core.phase is Phase.LIVE
            self._core.detach()
            if was_live:
                last_live = clock()
                attempt = 0 if last_live - began >= _STABLE_S else attempt
            error = self._verdict(ended, clock() - last_live)
            if error is not None:
                return error
            attempt += 1
            delay = self._delay(attempt)
            self._core.turns.tell(Reconnecting(attempt=attempt, delay_s=delay, code=ended.code.name))
            await self._environment.sleep(delay)

    def _delay(self, attempt: int) -> float:
        asked, self._core.reconnect_after_s = self._core.reconnect_after_s, None
        if asked is not None:
            return asked  # the server spreads its clients itself
        assert self._backoff is not None
        return self._backoff.delay(attempt, self._environment.random)

    def _verdict(self, ended: LineEnded, outage_s: float) -> BargeinError | None:
        """Return what the session ends with, None to connect again.

        A code that says `retry` asks for a fresh session. The client asks for the old one all the same:
        the server refuses it with a reason, and nothing is lost when it can still be had.
        """
        code = ended.code
        if self.closing:
            return SessionClosed(code=code)
        if self._core.session_id is None:
            given = code if ended.status is None and code is not bp.errors.ABNORMAL else None
            return ConnectError(self._url, ended.why, code=given, status=ended.status)
        if code is bp.errors.CLOSED:
            return SessionClosed("the server closed the session", code)
        if code is bp.errors.REPLACED:
            return SessionReplaced(code.reason, code)
        if code in (bp.errors.UNAUTHORIZED, bp.errors.FORBIDDEN):
            return AccessDenied(code.reason, code)
        if ended.final or self._backoff is None:
            return ConnectionLost(ended.why, code)
        if outage_s >= self._give_up_after_s:
            return ConnectionLost(f"no connection for {outage_s:.0f} s: {ended.why}", code)
        return None

    async def _serve(self) -> LineEnded:
        """Dial, then read until the line ends; return how it did."""
        try:
            line = await self._dial()
        except LineEnded as ended:
            return ended
        core = self._core
        core.attach()
        watchdog = Watchdog(line, lambda: core.phase is not Phase.OPENING, lambda: 2 * core.heartbeat_s)
        writer = asyncio.create_task(self._write(line), name="bargein-writer")
        try:
            return await self._read(line, watchdog)
        finally:
            watchdog.stop()
            writer.cancel()
            line.abort()
            await asyncio.wait([writer])
            await line.wait_gone()

    async def _read(self, line: Line, watchdog: Watchdog) -> LineEnded:
        """Hand every event to the core in the step in which it comes; waits for nothing else."""
        self.flush()
        try:
            while True:
                event = await line.receive()
                self._core.receive(event)
                if isinstance(event, bp.SessionOpened):
                    watchdog.reset()
                self._settle()
                self.flush()
        except LineEnded as ended:
            return ended
        except ServerViolation as violation:
            return LineEnded(bp.errors.ABNORMAL, str(violation))

    async def _write(self, line: Line) -> None:
        try:
            while True:
                await self._to_send.wait()
                self._to_send.clear()
                for event in self._core.outgoing():
                    await line.send(event)
        except LineEnded:
            pass  # the reader sees it, too, after everything that came before
