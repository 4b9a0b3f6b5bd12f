"""Limit on the running turns of a server, with a queue of sessions.

A session has one `Permit`. It keeps its slot, or its place in the queue, from one turn to the next when
the next barges in, so that an interrupt never loses its place to other sessions. Otherwise each turn
queues anew, so that a session with many inputs does not keep others waiting.
"""

from __future__ import annotations

from collections.abc import Callable


class TurnLimiter:
    """Limiter of one server.

    Args:
        most: Maximum number of running turns.
        waiting: Maximum number of waiting permits; then `room` is false.
    """

    __limiter__ = ("_queue", "_most", "_taken", "_waiting")

    def __init__(self, most: int, waiting: int) -> None:
        self._most = most
        self._waiting = waiting
        self._taken = 0
        self._queue: dict[Permit, None] = {}

    @property
    def taken(self) -> int:
        """Number of running turns."""
        return self._taken

    @property
    def waiting(self) -> int:
        """Number of waiting permits."""
        return len(self._queue)

    @property
    def room(self) -> bool:
        """Whether one more permit gets a slot or a place in the queue."""
        return self._taken < self._most or len(self._queue) < self._waiting

    def enter(self, permit: Permit) -> bool:
        """Give a permit a slot, or a place in the queue."""
        if self._taken < self._most:
            self._taken += 1
            return True
        self._queue[permit] = None
        return False

    def leave(self, permit: Permit) -> None:
        """Remove a permit; the first waiting one gets its slot."""
        if permit in self._queue:
            del self._queue[permit]
            return
        first = next(iter(self._queue), None)
        if first is None:
            self._taken -= 1
        else:
            del self._queue[first]
            first.grant()

    def position(self, permit: Permit) -> int:
        """Return the position of a waiting permit, 1 for the first."""
        for position, other in enumerate(self._queue, 1):
            if other is permit:
                return position
        raise KeyError("the permit does not wait")


class Permit:
    """Permit of one session to run a turn.

    Args:
        turn_limiter: The server's limiter.
        granted: Called when a waiting permit gets its slot, within the step of the session that
            released it. The host continues with this session in a step of its own.

    Attributes:
        held: Whether it has a slot.
        waits: Whether it is in the queue.
    """

    __limiter__ = ("_granted", "_limiter", "held", "waits")

    def __init__(self, turn_limiter: TurnLimiter, granted: Callable[[], None]) -> None:
        self._limiter = turn_limiter
        self._granted = granted
        self.held = False
        self.waits = False

    @property
    def room(self) -> bool:
        """Whether an input can get a slot or a place in the queue."""
        return self.held or self.waits or self._limiter.room

    @property
    def contested(self) -> bool:
        """Whether other sessions wait."""
        return self._limiter.waiting > 0

    @property
    def position(self) -> int:
        """Position in the queue, 1 for the first; 0 when it does not wait."""
        return self._limiter.position(self) if self.waits else 0

    def take(self) -> bool:
        """Get a slot, or a place in the queue; return whether it has a slot."""
        if not (self.held or self.waits):
            self.held = self._limiter.enter(self)
            self.waits = not self.held
        return self.held

    def drop(self) -> None:
        """Give up the slot or the place in the queue."""
        if self.held or self.waits:
            self.held = self.waits = False
            self._limiter.leave(self)

    def grant(self) -> None:
        """Take a slot that another session released."""
        self.held, self.waits = True, False
        self._granted()
