"""Tells people what happens to the line and to the session."""

from __future__ import annotations

import bargein_protocol as bp

from .errors import SessionClosed
from .events import EventsLost, Reconnecting, SessionEvent, SessionRestarted, SessionResumed
from .screen import Screen
from .session import EventStream


class Notices:
    """Follows a session's events and says what concerns more than one turn.

    Args:
        screen: Where to say it.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._away = False

    async def follow(self, stream: EventStream) -> None:
        """Say everything until the session is over; whoever runs the session says why it is."""
        try:
            async for event in stream:
                self.say(event)
        except SessionClosed:
            pass

    def say(self, event: SessionEvent) -> None:
        """Say what an event means; most mean nothing here."""
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
            self._screen.line("note", f"the server lost the session, starting afresh ({event.reason})")
        elif isinstance(event, EventsLost):
            self._screen.line("mark", f"{event.count} events were lost")
        elif isinstance(event, bp.Heartbeat) and event.message:
            self._screen.status(event.message)
        elif isinstance(event, bp.GoAway):
            self._screen.line("note", f"the server is going away: {event.reason}")
        elif isinstance(event, bp.InterruptResult) and event.outcome == "deferred":
            self._screen.line("note", "the agent must finish this part first")
        elif isinstance(event, bp.ErrorEvent) and event.code != "session_lost":
            self._screen.line("mark", f"{event.code}: {event.message}")
