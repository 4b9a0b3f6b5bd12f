"""Lease: hold of this process on one session in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..core.persistence import Persistence
from ..core.records import Changes
from ..core.session import Session
from ..stores.interface import Write


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
