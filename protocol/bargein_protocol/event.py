"""What events have in common: that they are plain data with a type, and their place in the stream."""

from __future__ import annotations

from msgspec import Struct

from .types import NO_SEQ, NO_TURN, AnyTurnIdField, SeqField, Source


# gc=False: they are plain data without cycles. Servers keep some for each turn that they remember, and the
# garbage collector need not walk through them.
class Event(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """Anything that one side tells the other; its `type` says what."""


class Numbered(Event, frozen=True, kw_only=True):
    """An event that has a place in the session's stream."""

    seq: SeqField = NO_SEQ


class TurnEvent(Numbered, frozen=True, kw_only=True):
    """A numbered event of one turn."""

    turn_id: AnyTurnIdField = NO_TURN


class Output(TurnEvent, frozen=True, kw_only=True):
    """What an agent may yield.

    Args:
        source: Which of several agents speaks; empty for the turn's own voice.
    """

    source: Source = ""
