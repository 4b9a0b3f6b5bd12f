"""Observer of a session, and spans of its work; the defaults do nothing.

An observer is notified in the step in which something happens: once per turn, request or answer, never
once per token. It has its own clock, changes nothing, and raises nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

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


Attribute = str | bool | int | float | Sequence[str]


class Span:
    """See the module. This one does nothing, as in a server without traces.

    Work is not the current span of the code around it, because an async generator has no context of
    its own: what is made current while it stands at a `yield` would be so for whoever pulls it.
    """

    __slots__ = ()

    def current(self) -> AbstractContextManager[None]:
        """Return a block in which other spans become children of this one. Never `yield` in it."""
        return nullcontext()

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes; what users or models said does not belong there."""

    def fail(self, kind: str) -> None:
        """Say that the work failed, with the name of an exception's class or a code."""

    def end(self) -> None:
        """The work is over. Every span must be ended, once."""


NO_SPAN = Span()
