"""Phases of a connection, and the events that each phase allows.

Every server event is checked against the table before it changes any state.

    phase       session.opened          replay.done, snapshot   numbered            others
    OFFLINE     dropped                 dropped                 dropped             dropped
    OPENING     to LIVE or REPLAYING    violation               violation           taken
    REPLAYING   violation               to LIVE; taken          taken, without hole taken
    LIVE        violation               violation               taken, without hole taken

Events that arrive after the channel is gone are dropped. Numbers are contiguous: a number at or below
the last one is a harmless duplicate, one too far ahead leaves a gap; see `gap_before`.
"""

from __future__ import annotations

from enum import Enum

import bargein_protocol as bp

from .errors import ServerViolation


class Phase(Enum):
    """Phase of a connection."""

    OFFLINE = "offline"
    OPENING = "opening"
    REPLAYING = "replaying"
    LIVE = "live"


def check(event: bp.ServerEvent | bp.UnknownEvent, phase: Phase, last_seq: bp.Seq, epoch: bp.Epoch) -> None:
    """Check an event against the table.

    Args:
        event: The event.
        phase: Phase of the connection.
        last_seq: The last number that was taken.
        epoch: Epoch of that number.

    Raises:
        ServerViolation: The event is out of place.
    """
    if isinstance(event, bp.SessionOpened):
        if phase is not Phase.OPENING:
            raise ServerViolation("expected one session.opened on a connection, got a second one")
        if event.resumed and event.epoch != epoch:
            raise ServerViolation("expected a resumed session to keep its epoch")
    elif isinstance(event, (bp.ReplayDone, bp.Snapshot)):
        if phase is not Phase.REPLAYING:
            raise ServerViolation("expected a replay only after a resume")
        if isinstance(event, bp.Snapshot):
            _check_snapshot(event, last_seq)
    elif isinstance(event, bp.Numbered):
        if phase is Phase.OPENING:
            raise ServerViolation("expected session.opened before the first numbered event")
        _check_number(event)


def gap_before(event: bp.ServerEvent | bp.UnknownEvent, last_seq: bp.Seq) -> int:
    """Return the number of events missing between the last one and this one."""
    if isinstance(event, bp.ReplayDone):
        return max(0, event.through - last_seq)
    if isinstance(event, bp.Numbered):
        return max(0, event.seq - last_seq - 1)
    return 0


def _check_snapshot(event: bp.Snapshot, last_seq: bp.Seq) -> None:
    if event.through < last_seq:
        raise ServerViolation(f"expected a snapshot of {last_seq} or later, got {event.through}")
    turn_ids = {state.turn_id for state in event.turns}
    if bp.NO_TURN in turn_ids or len(turn_ids) < len(event.turns):
        raise ServerViolation("expected a snapshot with each turn once, under its id")


def _check_number(event: bp.Numbered) -> None:
    if isinstance(event, bp.TurnEvent) and not event.turn_id:
        raise ServerViolation("expected the id of a turn, got none")
    if not event.seq and not isinstance(event, bp.UnknownEvent):
        answers = (bp.InputAccepted, bp.InputQueued, bp.SessionRewound)
        answer_again = isinstance(event, answers) and event.duplicate
        if not answer_again:
            raise ServerViolation("expected a number, got none")
