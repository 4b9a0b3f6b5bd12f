"""Notices about the connection and the session."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import bargein_protocol as bp

from ..connect import connect
from ..errors import SessionClosed
from ..event_reader import EventStream
from ..events import EventsLost, Reconnecting, SessionEvent, SessionRestarted, SessionResumed
from ..session import ClientSession
from .screen import Screen
from .terminal import one_line

CLIENT = bp.ClientInfo(name="bargein-cli")
SLOW_AFTER_S = 2.0


@asynccontextmanager
async def connected(url: str, token: str | None) -> AsyncIterator[ClientSession]:
    """Open a session; report at a terminal when the server is slow."""

    def report() -> None:
        if sys.stderr.isatty():
            print(f"bargein: waiting for {one_line(url)}, Ctrl-C leaves", file=sys.stderr)

    slow = asyncio.get_running_loop().call_later(SLOW_AFTER_S, report)
    try:
        async with connect(url, token=token, client=CLIENT) as session:
            slow.cancel()
            yield session
    finally:
        slow.cancel()


class Notices:
    """Shows the events of a session that concern more than one turn.

    Args:
        screen: Output.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._away = False

    async def follow(self, stream: EventStream) -> None:
        """Show notices until the session is over; the caller handles the reason."""
        try:
            async for event in stream:
                self.show(event)
        except SessionClosed:
            pass

    def show(self, event: SessionEvent) -> None:
        """Show the notice for an event; most events have none."""
        if isinstance(event, Reconnecting):
            if not self._away:
                self._away = True
                self._screen.line("note", "reconnecting\u2026")
            self._screen.status(f"reconnecting, attempt {event.attempt}")
        elif isinstance(event, SessionResumed):
            self._away = False
            self._screen.status(None)
            self._screen.line("note", "resumed")
        elif isinstance(event, SessionRestarted):
            self._away = False
            self._screen.status(None)
            words = "the server has forgotten this conversation; a new one has begun"
            self._screen.line("note", f"{words} ({event.reason})")
        elif isinstance(event, EventsLost):
            events = "1 event was" if event.count == 1 else f"{event.count} events were"
            self._screen.line("mark", f"{events} lost")
        elif isinstance(event, bp.Heartbeat) and event.message:
            self._screen.status(event.message)
        elif isinstance(event, bp.GoAway):
            why = "" if event.reason == "shutdown" else f": {event.reason}"
            self._screen.line("note", f"the server is shutting down{why}")
        elif isinstance(event, bp.InterruptResult) and event.outcome == "deferred":
            self._screen.line("note", "the agent has to finish this part first")
        elif isinstance(event, bp.ErrorEvent) and event.code != "session_lost":
            self._screen.line("mark", f"{event.code}: {event.message}")
