"""Who is told what happens in a session, in the step in which it happens; nobody by default.

Once a turn, a request or an answer, never once a token. An observer has its own clock, changes
nothing, and raises nothing.
"""

from __future__ import annotations

from bargein_protocol import ServerEvent, TurnEnded

from .turn_record import TurnRecord


class Observer:
    """See the module. This one does nothing with what it is told."""

    __slots__ = ()

    def answered(self, event: ServerEvent) -> None:
        """An unnumbered event was made for the client, such as an answer or a heartbeat."""

    def turn_asked(self, turn: TurnRecord) -> None:
        """An input got a turn, which may have to wait for others."""

    def turn_cut(self, turn: TurnRecord) -> None:
        """A client's request will end the turn: at once, or when its section is over."""

    def turn_ended(self, turn: TurnRecord, event: TurnEnded, ran: bool) -> None:
        """The turn's one end was numbered.

        Args:
            turn: The turn.
            event: Its end.
            ran: The fence was closed under a running agent, whose cleanup comes next.
        """


NOBODY = Observer()
