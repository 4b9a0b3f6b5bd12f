"""Lifecycle of a turn as a table: (state, event) → (next state, effects).

Two machines run side by side in every turn. The *stage* follows its agent:

    queued      an earlier turn or the limit on running turns delays it
    running     the agent's task runs
    finishing   the generator has returned, and output still waits to be written
    ended       its one `turn.ended` is numbered (contract 1)

The *flow* follows its output:

    open            output is written as it arrives
    held            a hold stops it (contract 10)
    protected       a section is open, or its output still waits (contract 9)
    held_protected  a section began during a hold
    hold_pending    protected, and a hold takes effect after it
    cut_pending     protected, and an interrupt takes effect after it
    shut            the fence is closed (contract 2)

An event moves every machine that has a row for it. An event that moves none is misuse: it raises and
changes nothing. The diagram in the protocol's README is generated from `STAGES` and
`FLOWS` by `scripts/lifecycle_diagram.py`.
"""

from __future__ import annotations

from enum import Enum


class Stage(Enum):
    """Progress of a turn's agent."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHING = "finishing"
    ENDED = "ended"

    __hash__ = object.__hash__  # Enum hashes the name, in Python code


class Flow(Enum):
    """State of a turn's output."""

    OPEN = "open"
    HELD = "held"
    PROTECTED = "protected"
    HELD_PROTECTED = "held_protected"
    HOLD_PENDING = "hold_pending"
    CUT_PENDING = "cut_pending"
    SHUT = "shut"

    __hash__ = object.__hash__


class Event(Enum):
    """Something that happens to a turn."""

    START = "start"
    """The agent may run."""
    FINISH = "finish"
    """The generator has returned or failed."""
    HOLD = "hold"
    """A client asks for a pause."""
    RESUME = "resume"
    """A client, or the limit on holds, ends the pause."""
    PROTECT = "protect"
    """The agent enters a protected section."""
    RELEASE = "release"
    """All sections are left, and their output is written."""
    CUT = "cut"
    """An interrupt arrives that a section defers."""
    END = "end"
    """The turn ends now."""

    __hash__ = object.__hash__


class Effect(Enum):
    """Consequence of a transition.

    The turn scheduler carries effects out in this order.
    """

    PURGE_UNPROTECTED = "purge unprotected output"
    REPORT_HELD = "number turn.held"
    REPORT_RESUMED = "number turn.resumed"
    END_TURN = "end the turn"
    PURGE = "purge all output"
    CANCEL_TASK = "cancel the task"

    __hash__ = object.__hash__


# Python 3.11 finds a member by a descriptor in Python code, which costs 75 ns, some of it for every token.
# From 3.12 on a member stands in its class, as here.
for _enum in (Stage, Flow, Event, Effect):
    for _member in _enum:
        type.__setattr__(_enum, _member.name, _member)


class Misuse(Exception):
    """The host made a call that the core forbids; nothing has changed."""


STAGES: dict[tuple[Stage, Event], tuple[Stage, tuple[Effect, ...]]] = {
    (Stage.QUEUED, Event.START): (Stage.RUNNING, ()),
    (Stage.QUEUED, Event.END): (Stage.ENDED, ()),
    (Stage.RUNNING, Event.FINISH): (Stage.FINISHING, ()),
    (Stage.RUNNING, Event.END): (Stage.ENDED, (Effect.CANCEL_TASK,)),
    (Stage.FINISHING, Event.END): (Stage.ENDED, ()),
}

FLOWS: dict[tuple[Flow, Event], tuple[Flow, tuple[Effect, ...]]] = {
    (Flow.OPEN, Event.HOLD): (Flow.HELD, (Effect.REPORT_HELD,)),
    (Flow.OPEN, Event.RESUME): (Flow.OPEN, ()),
    (Flow.OPEN, Event.PROTECT): (Flow.PROTECTED, ()),
    (Flow.OPEN, Event.END): (Flow.SHUT, (Effect.PURGE,)),
    (Flow.HELD, Event.HOLD): (Flow.HELD, ()),
    (Flow.HELD, Event.RESUME): (Flow.OPEN, (Effect.REPORT_RESUMED,)),
    (Flow.HELD, Event.PROTECT): (Flow.HELD_PROTECTED, ()),
    (Flow.HELD, Event.END): (Flow.SHUT, (Effect.PURGE,)),
    (Flow.PROTECTED, Event.HOLD): (Flow.HOLD_PENDING, ()),
    (Flow.PROTECTED, Event.RESUME): (Flow.PROTECTED, ()),
    (Flow.PROTECTED, Event.PROTECT): (Flow.PROTECTED, ()),
    (Flow.PROTECTED, Event.CUT): (Flow.CUT_PENDING, (Effect.PURGE_UNPROTECTED,)),
    (Flow.PROTECTED, Event.RELEASE): (Flow.OPEN, ()),
    (Flow.PROTECTED, Event.END): (Flow.SHUT, (Effect.PURGE,)),
    # A held section could never be over, so a cut ends the hold.
    (Flow.HELD_PROTECTED, Event.HOLD): (Flow.HELD_PROTECTED, ()),
    (Flow.HELD_PROTECTED, Event.RESUME): (Flow.PROTECTED, (Effect.REPORT_RESUMED,)),
    (Flow.HELD_PROTECTED, Event.PROTECT): (Flow.HELD_PROTECTED, ()),
    (Flow.HELD_PROTECTED, Event.CUT): (Flow.CUT_PENDING, (Effect.PURGE_UNPROTECTED, Effect.REPORT_RESUMED)),
    (Flow.HELD_PROTECTED, Event.RELEASE): (Flow.HELD, ()),
    (Flow.HELD_PROTECTED, Event.END): (Flow.SHUT, (Effect.PURGE,)),
    (Flow.HOLD_PENDING, Event.HOLD): (Flow.HOLD_PENDING, ()),
    (Flow.HOLD_PENDING, Event.RESUME): (Flow.PROTECTED, ()),
    (Flow.HOLD_PENDING, Event.PROTECT): (Flow.HOLD_PENDING, ()),
    (Flow.HOLD_PENDING, Event.CUT): (Flow.CUT_PENDING, (Effect.PURGE_UNPROTECTED,)),
    (Flow.HOLD_PENDING, Event.RELEASE): (Flow.HELD, (Effect.REPORT_HELD,)),
    (Flow.HOLD_PENDING, Event.END): (Flow.SHUT, (Effect.PURGE,)),
    (Flow.CUT_PENDING, Event.HOLD): (Flow.CUT_PENDING, ()),
    (Flow.CUT_PENDING, Event.RESUME): (Flow.CUT_PENDING, ()),
    (Flow.CUT_PENDING, Event.PROTECT): (Flow.CUT_PENDING, ()),
    (Flow.CUT_PENDING, Event.CUT): (Flow.CUT_PENDING, (Effect.PURGE_UNPROTECTED,)),
    (Flow.CUT_PENDING, Event.RELEASE): (Flow.CUT_PENDING, (Effect.END_TURN,)),
    (Flow.CUT_PENDING, Event.END): (Flow.SHUT, (Effect.PURGE,)),
}

GUARDED = frozenset({Flow.PROTECTED, Flow.HELD_PROTECTED, Flow.HOLD_PENDING, Flow.CUT_PENDING})
"""Flows in which an interrupt is deferred (contract 9)."""

HELD = frozenset({Flow.HELD, Flow.HELD_PROTECTED})
"""Flows in which nothing is written (contract 10)."""
