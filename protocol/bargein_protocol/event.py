"""Base classes of events."""

from __future__ import annotations

from msgspec import Struct

from .types import NO_SEQ, NO_TURN, AnyTurnIdField, SeqField, Source


# gc=False: events are plain data without cycles. Servers keep some for each turn in memory, and the garbage
# collector then does not traverse them.
class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """A message from one side to the other, with its kind in `type`."""


class Numbered(Event, frozen=True, kw_only=True):
    """An event with a number in the session's stream."""

    seq: SeqField = NO_SEQ


class TurnEvent(Numbered, frozen=True, kw_only=True):
    """A numbered event of one turn."""

    turn_id: AnyTurnIdField = NO_TURN


class Output(TurnEvent, frozen=True, kw_only=True):
    """Output of an agent.

    Args:
        source: The agent of several in a turn; empty for the main lane.
    """

    source: Source = ""
