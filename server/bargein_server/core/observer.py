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
    """Observer of one session; this base class ignores every event.

    Its methods are called in the step in which something happens. They change and raise nothing.
    """

    __slots__ = ()

    def answered(self, event: ServerEvent) -> None:
        """Record an unnumbered event, such as an answer or a heartbeat."""

    def turn_asked(self, turn: TurnRecord) -> None:
        """Record that an input got a turn, which may have to wait for others."""

    def turn_cut(self, turn: TurnRecord) -> None:
        """Record that a request will end the turn, now or after its section."""

    def speech(self, decision: str, spoken_ms: int) -> None:
        """Record a decision on the user's speech.

        Args:
            decision: Name of a `floor.Decision`, in lower case.
            spoken_ms: Time of the sound since the speech began.
        """

    def turn_ended(self, turn: TurnRecord, event: TurnEnded, ran: bool) -> None:
        """Record that the turn's one end was numbered.

        Args:
            turn: The turn.
            event: Its end.
            ran: Whether its agent was running; then its cleanup comes next.
        """


NO_OBSERVER = Observer()


Attribute = str | bool | int | float | Sequence[str]


class Span:
    """Piece of work in a trace: a call of a model, a tool, an agent.

    This base class records nothing, as in a server without traces.

    A span is not made current automatically, because an async generator has no context of its own: a
    span that is current while the generator stands at a `yield` would be current for its caller too.
    """

    __slots__ = ()

    def current(self) -> AbstractContextManager[None]:
        """Return a block in which new spans are children of this one.

        Do not `yield` in it.
        """
        return nullcontext()

    def set(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes; texts of users and models do not belong there."""

    def fail(self, kind: str) -> None:
        """Record a failure by the name of an exception's class or a code."""

    def end(self) -> None:
        """End the span; every span must be ended once."""


NO_SPAN = Span()
