"""Limit on the running turns of a server, with a queue of sessions.

A session has one `Permit`. It keeps its slot, or its place in the queue, from one turn to the next when
the next barges in, so that an interrupt never loses its place to other sessions. Otherwise each turn
queues anew, so that a session with many inputs does not keep others waiting. A client has a share of the
slots and of the queue, so that many sessions of one client do not keep others waiting either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ..settings import share_of


def _always(owner: str) -> bool:
    return True


class TurnLimiter:
    """Limiter of one server.

    Args:
        most: Maximum number of running turns.
        waiting: Maximum number of waiting permits; then `room` is false.
        share: Part of the slots and of the queue that one client may have.
        refused: Called when a permit gets neither.
    """

    __slots__ = (
        "_most",
        "_most_of_one",
        "_queue",
        "_refused",
        "_taken",
        "_taken_by",
        "_waiting",
        "_waiting_by",
        "_waiting_of_one",
    )

    def __init__(
        self, most: int, waiting: int, share: float = 1.0, refused: Callable[[], None] = lambda: None
    ) -> None:
        self._refused = refused
        self._most = most
        self._waiting = waiting
        self._most_of_one = share_of(most, share)
        self._waiting_of_one = share_of(waiting, share)
        self._taken = 0
        self._taken_by: Counter[str] = Counter()
        self._waiting_by: Counter[str] = Counter()
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

    def room_for(self, owner: str) -> bool:
        """Return whether a client's next permit gets a slot or a place."""
        if self._may_run(owner):
            return True
        room = len(self._queue) < self._waiting and (
            not owner or self._waiting_by[owner] < self._waiting_of_one
        )
        if not room:
            self._refused()
        return room

    def enter(self, permit: Permit) -> bool:
        """Give a permit a slot, or a place in the queue."""
        if self._may_run(permit.owner):
            self._taken += 1
            self._taken_by[permit.owner] += 1
            return True
        self._queue[permit] = None
        self._waiting_by[permit.owner] += 1
        return False

    def leave(self, permit: Permit) -> None:
        """Remove a permit; a waiting client below its share gets its slot."""
        if permit in self._queue:
            self._leave_queue(permit)
            return
        self._taken -= 1
        if taken := self._taken_by.pop(permit.owner) - 1:
            self._taken_by[permit.owner] = taken
        for waiting in self._queue:
            if self._may_run(waiting.owner):
                self._leave_queue(waiting)
                self.enter(waiting)
                waiting.grant()
                break

    def _may_run(self, owner: str) -> bool:
        return self._taken < self._most and (not owner or self._taken_by[owner] < self._most_of_one)

    def _leave_queue(self, permit: Permit) -> None:
        del self._queue[permit]
        if waiting := self._waiting_by.pop(permit.owner) - 1:
            self._waiting_by[permit.owner] = waiting

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
        owner: The client whose share it uses; empty for a client that cannot be told from others.
        may_keep: Returns whether the server keeps one more input of this client.

    Attributes:
        owner: The client whose share it uses.
        held: Whether it has a slot.
        waits: Whether it is in the queue.
    """

    __slots__ = ("_granted", "_limiter", "_may_keep", "held", "owner", "waits")

    def __init__(
        self,
        turn_limiter: TurnLimiter,
        granted: Callable[[], None],
        owner: str = "",
        may_keep: Callable[[str], bool] = _always,
    ) -> None:
        self.owner = owner
        self._may_keep = may_keep
        self._limiter = turn_limiter
        self._granted = granted
        self.held = False
        self.waits = False

    @property
    def room(self) -> bool:
        """Whether an input can get a slot or a place in the queue."""
        return self.held or self.waits or (self._limiter.room_for(self.owner) and self.affordable)

    @property
    def affordable(self) -> bool:
        """Whether the server keeps one more input of this client in memory."""
        return self._may_keep(self.owner)

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
