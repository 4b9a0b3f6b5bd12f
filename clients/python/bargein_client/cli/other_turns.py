"""Display of turns that other clients of the session ask for."""

from __future__ import annotations

import bargein_protocol as bp

from ..events import SessionEvent, TurnSnapshot
from .screen import Screen
from .view import TurnView


class OtherTurns:
    """Shows the turns of a session that were asked for elsewhere.

    Such a turn comes through a route of another protocol. Its input is not among the server's events.

    Args:
        screen: Output.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._own: set[str] = set()
        self._views: dict[bp.TurnId, TurnView] = {}

    @property
    def running(self) -> bool:
        """Whether such a turn has not ended."""
        return bool(self._views)

    def is_own(self, input_id: str) -> None:
        """Note an input of this client, whose turn is shown by others."""
        self._own.add(input_id)

    def take(self, event: SessionEvent) -> bool:
        """Show an event of such a turn; return whether it is one."""
        if isinstance(event, (bp.InputAccepted, bp.InputQueued)):
            if event.input_id in self._own:
                return False
            if event.turn_id not in self._views:
                self._screen.gap()
                self._screen.line("note", "another client has asked:")
                self._views[event.turn_id] = TurnView(self._screen)
        turn_id = getattr(event, "turn_id", None)
        view = self._views.get(turn_id) if turn_id is not None else None
        if view is None:
            return False
        view.show(event)
        if isinstance(event, bp.TurnEnded) or (
            isinstance(event, TurnSnapshot) and event.state.status is not None
        ):
            del self._views[event.turn_id]
        return True

    def cut(self) -> None:
        """Mark where the user interrupted such a turn."""
        for view in self._views.values():
            view.cut()
