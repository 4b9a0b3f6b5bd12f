"""Notices about the connection and the session."""

from __future__ import annotations

import bargein_protocol as bp

from ..errors import SessionClosed
from ..event_reader import EventStream
from ..events import EventsLost, Reconnecting, SessionEvent, SessionRestarted, SessionResumed
from .screen import Screen


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
