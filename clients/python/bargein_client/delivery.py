"""Delivery state of a turn's output, and its table of transitions.

Contract 2: from the moment an interrupt is sent, nothing of the turn is rendered or played. The server's
answer decides whether the output that was withheld meanwhile is dropped or delivered.

    state                withhold             end      defer                release
    DELIVERED            WITHHELD
    WITHHELD                                  DROPPED  PROTECTED_WITHHELD   DELIVERED
    PROTECTED            PROTECTED_WITHHELD
    PROTECTED_WITHHELD                        DROPPED                       PROTECTED
    DROPPED

An empty cell leaves the state as it is. `close` leads from every state to ENDED, which nothing leaves.
"""

from __future__ import annotations

from enum import Enum


class Delivery(Enum):
    """Delivery state of one turn's output."""

    DELIVERED = "delivered"
    """Output reaches the consumers."""
    WITHHELD = "withheld"
    """A request to end the turn has no answer yet; output is kept back."""
    PROTECTED = "protected"
    """The server deferred the end: the rest of the output is delivered, even if the turn is then cut."""
    PROTECTED_WITHHELD = "protected_withheld"
    """The end was deferred, and another request to end the turn has no answer yet."""
    DROPPED = "dropped"
    """The server accepted the end; no further output is delivered."""
    ENDED = "ended"
    """The turn ended, or its input was refused."""

    @property
    def is_withheld(self) -> bool:
        """Whether output is kept back until a request is answered."""
        return self in (Delivery.WITHHELD, Delivery.PROTECTED_WITHHELD)

    @property
    def is_delivered(self) -> bool:
        """Whether output reaches the consumers now."""
        return self in (Delivery.DELIVERED, Delivery.PROTECTED)


class Signal(Enum):
    """Cause of a transition."""

    WITHHOLD = "withhold"
    """A request to end the turn was sent."""
    END = "end"
    """The server accepted such a request."""
    DEFER = "defer"
    """The server deferred it until a protected section is over."""
    RELEASE = "release"
    """No request to end the turn waits for an answer any more."""
    CLOSE = "close"
    """The turn is over."""


_TRANSITIONS: dict[tuple[Delivery, Signal], Delivery] = {
    (Delivery.DELIVERED, Signal.WITHHOLD): Delivery.WITHHELD,
    (Delivery.WITHHELD, Signal.END): Delivery.DROPPED,
    (Delivery.WITHHELD, Signal.DEFER): Delivery.PROTECTED_WITHHELD,
    (Delivery.WITHHELD, Signal.RELEASE): Delivery.DELIVERED,
    (Delivery.PROTECTED, Signal.WITHHOLD): Delivery.PROTECTED_WITHHELD,
    (Delivery.PROTECTED_WITHHELD, Signal.END): Delivery.DROPPED,
    (Delivery.PROTECTED_WITHHELD, Signal.RELEASE): Delivery.PROTECTED,
}


def transition(state: Delivery, signal: Signal) -> Delivery:
    """Return the state after a signal."""
    if signal is Signal.CLOSE:
        return Delivery.ENDED
    return _TRANSITIONS.get((state, signal), state)
