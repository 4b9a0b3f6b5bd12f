"""Lease: hold of this process on one session in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from bargein_protocol import SessionId

from ..core.persistence import Persistence
from ..core.records import Changes
from ..core.session import Session
from ..stores.interface import Outcome, Write


class KeptHost(Protocol):
    """The parts of a session's host that the keeper uses.

    Attributes:
        core: The session.
    """

    core: Session

    def flush(self) -> None:
        """Write the frames that the core has."""
        ...

    def taken(self, deleted: bool) -> None:
        """End the session without a word to the store."""
        ...


class Lease:
    """Hold of this process on a session in the store.

    Args:
        changed: Called with the lease when its session has something to write, and whether that binds.
        fence: The owner's fence.
        writes: Number of writes that the store has.

    Attributes:
        host: The session; set before its first change is written.
    """

    __slots__ = ("_changed", "_waiters", "fence", "host", "writes")

    def __init__(self, changed: Callable[[Lease, bool], None], fence: str, writes: int) -> None:
        self._changed = changed
        self._waiters: list[asyncio.Future[None]] = []
        self.fence = fence
        self.writes = writes
        self.host: KeptHost | None = None

    def changed(self, binds: bool) -> None:
        """Record that the session has something to write (`ChangeLog`)."""
        self._changed(self, binds)

    @property
    def persistence(self) -> Persistence:
        """The session's records."""
        assert self.host is not None
        assert self.host.core.persistence is not None
        return self.host.core.persistence

    def write_of(self, changes: Changes, wall: float, *, released: bool = False) -> Write:
        """Return the next write of the session.

        Args:
            changes: The changes.
            wall: The time in seconds since 1970.
            released: Whether this process gives the session up.
        """
        head, follows = self.persistence.head, self.writes
        self.writes += 1  # now and not when it is answered: another write may follow before
        return Write(
            head.session_id, self.fence, follows, changes, head.principal, head.created_at, wall, released
        )

    def uncork(self, mark: int | None = None) -> None:
        """Record stored changes up to a mark or all; let awaited frames go."""
        changes = self.persistence.changes
        uncorked = changes.stored(changes.mark if mark is None else mark)
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if uncorked:
            assert self.host is not None
            self.host.flush()

    def uncork_silently(self) -> None:
        """Record that no frame waits for the store, in a step that writes anyway."""
        changes = self.persistence.changes
        changes.stored(changes.mark)

    async def stored(self) -> None:
        """Wait until all is stored, or until no frame waits for the store."""
        changes = self.persistence.changes
        changes.bind()
        mark = changes.mark
        while changes.kept < mark:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter


GIVEN_S = 5.0
"""Time for which a session that was given away stays in memory, for a store that forgets it."""

MAX_GIVEN = 1000
"""Sessions that stay in memory for that reason; the oldest goes for a further one."""


class Releases:
    """Sessions that this process gives away, and has just given away.

    A session that was just given away is in no process until its next owner has read it. A shared store that
    forgets it in this time gets it once more.

    Args:
        clock: Returns the event loop's time.
        wall: Returns the time in seconds since 1970.
        shared: Whether other servers use the store.

    Attributes:
        writes: The writes that the store does not have yet.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float], shared: bool) -> None:
        self.writes: dict[SessionId, Write] = {}
        self._clock = clock
        self._wall = wall
        self._shared = shared
        self._leases: dict[SessionId, Lease] = {}
        self._given: dict[SessionId, tuple[Lease, float]] = {}  # and when the store had it

    def add(self, lease: Lease) -> None:
        """Give a session away."""
        persistence, wall = lease.persistence, self._wall()
        changes = persistence.collect(self._clock(), wall)
        if changes is None:
            changes = Changes(persistence.last_seq, persistence.changes.mark)
        session_id = persistence.head.session_id
        self.writes[session_id] = lease.write_of(changes, wall, released=True)
        self._leases[session_id] = lease
        self._given.pop(session_id, None)

    def _add_whole(self, lease: Lease) -> None:
        lease.persistence.changes.store_all()
        self.add(lease)

    def answered(self, write: Write, outcome: Outcome) -> None:
        """Take the store's answer to a write."""
        session_id = write.session_id
        if (lease := self._leases.get(session_id)) is None:
            return  # all were dropped meanwhile
        if outcome is Outcome.BEHIND:
            self._add_whole(lease)
            return
        del self.writes[session_id], self._leases[session_id]
        if outcome is Outcome.STORED and self._shared:
            self._given[session_id] = lease, self._clock()
            if len(self._given) > MAX_GIVEN:
                del self._given[next(iter(self._given))]

    def failed(self) -> None:
        """Give all away whole: the store may lack any part."""
        for lease in list(self._leases.values()):
            self._add_whole(lease)

    def forgotten(self) -> None:
        """Give those away once more that the store may have forgotten."""
        for lease, _ in list(self._given.values()):
            self._add_whole(lease)

    def drop_old(self) -> None:
        """Drop the sessions that were given away for long."""
        while self._given and self._clock() - self._given[oldest := next(iter(self._given))][1] > GIVEN_S:
            del self._given[oldest]

    def clear(self) -> None:
        """Drop all: only this server uses the store, and it failed."""
        self.writes, self._leases, self._given = {}, {}, {}
