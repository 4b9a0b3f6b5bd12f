"""How many turns a server runs at once, and the line of those that wait for one of its slots.

A session has one `Permit`. It keeps its slot, or its place in the line, from one turn to the next when
the next barges in: whoever interrupts is never put behind others. Otherwise each turn queues anew, so
that a session with many inputs does not keep others waiting.
"""

from __future__ import annotations

from collections.abc import Callable


class TurnLimiter:
    """The slots of a server.

    Args:
        most: Turns that may run at a time.
        waiting: Claims that may wait in the line before `room` says that there is none.
    """

    __slots__ = ("_line", "_most", "_taken", "_waiting")

    def __init__(self, most: int, waiting: int) -> None:
        self._most = most
        self._waiting = waiting
        self._taken = 0
        self._line: dict[Permit, None] = {}

    @property
    def taken(self) -> int:
        """How many slots are taken."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many claims stand in the line."""
        return len(self._line)

    @property
    def room(self) -> bool:
        """Whether one more claim gets a slot or a place in the line."""
        return self._taken < self._most or len(self._line) < self._waiting

    def enter(self, claim: Permit) -> bool:
        """Give a claim a slot, or a place in the line."""
        if self._taken < self._most:
            self._taken += 1
            return True
        self._line[claim] = None
        return False

    def leave(self, claim: Permit) -> None:
        """Take the slot of a claim, or its place in the line, and give a slot that is free to the next."""
        if claim in self._line:
            del self._line[claim]
            return
        first = next(iter(self._line), None)
        if first is None:
            self._taken -= 1
        else:
            del self._line[first]
            first.grant()

    def position(self, claim: Permit) -> int:
        """Return the place of a claim that stands in the line, 1 for the first."""
        for position, other in enumerate(self._line, 1):
            if other is claim:
                return position
        raise KeyError("the claim does not stand in the line")


class Permit:
    """One session's claim to a slot.

    Args:
        slots: The server's.
        granted: Called when a claim that waited has got its slot, from within the step of whoever
            gave it back: the shell lets the session go on in a step of its own.

    Attributes:
        held: Whether it has a slot.
        waits: Whether it stands in the line.
    """

    __slots__ = ("_granted", "_slots", "held", "waits")

    def __init__(self, turn_limiter: TurnLimiter, granted: Callable[[], None]) -> None:
        self._slots = turn_limiter
        self._granted = granted
        self.held = False
        self.waits = False

    @property
    def room(self) -> bool:
        """Whether an input may be taken: there is a slot for it or a place in the line."""
        return self.held or self.waits or self._slots.room

    @property
    def contested(self) -> bool:
        """Whether others stand in the line."""
        return self._slots.waiting > 0

    @property
    def position(self) -> int:
        """The place in the line, 0 when it does not stand there."""
        return self._slots.position(self) if self.waits else 0

    def take(self) -> bool:
        """Return whether it has a slot now; if not, it stands in the line."""
        if not (self.held or self.waits):
            self.held = self._slots.enter(self)
            self.waits = not self.held
        return self.held

    def drop(self) -> None:
        """Give up the slot or the place in the line."""
        if self.held or self.waits:
            self.held = self.waits = False
            self._slots.leave(self)

    def grant(self) -> None:
        """Take the slot that another gave back."""
        self.held, self.waits = True, False
        self._granted()
