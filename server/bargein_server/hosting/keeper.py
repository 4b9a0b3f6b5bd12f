"""Keeper: writes changes of a server's sessions to its store.

Binding changes are written at the end of the loop's iteration, those of all sessions in one batch, and the
next batch when that is answered. Output is written with them, and otherwise every `store_flush_s`.
A store that is late or fails silences nobody: its sessions go on in memory, and are written anew,
whole, when it works again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from bargein_protocol import SessionId

from ..core.records import Changes
from ..settings import Settings
from ..stores.interface import Outcome, Store, StoredSession, StoreError, Write
from ..stores.shared import SharedStore
from .lease import Lease, Releases
from .membership import Membership
from .store_health import StoreHealth, StoreLife

log = logging.getLogger("bargein.store")

MAX_WHOLE = 200
"""Sessions that one batch writes whole: encoding more holds up the event loop."""

CLOSE_S = 5.0
"""Time that the last writes have when the server stops."""

MAX_DELETIONS = 10_000
"""Deletions that wait for a store which fails."""


class Keeper:
    """Keeper of one server's sessions.

    Args:
        store: The store.
        settings: The limits.
        loop: The event loop.
        name: Name of this worker, with which the name in its fences begins; empty in a server of one process.

    Attributes:
        store: The store.
        wall: Returns the time in seconds since 1970: that of a store which many servers share.
        health: State of the store.
        written: Number of writes of sessions.
        leases: The sessions that are kept.
        opened: Set when the first attempt to open the store is over.
        membership: Membership among the servers that share the store; None in a store of one server.
        fenced: Number of sessions that another server has taken.
        write_s: Time of the last batch of writes, in seconds.
        stopping: Whether the server stops, so that it gets no session any more.
        store_life: Life of the store.
    """

    def __init__(
        self, store: Store, settings: Settings, loop: asyncio.AbstractEventLoop, name: str = ""
    ) -> None:
        self.store = store
        self.wall: Callable[[], float] = store.wall if isinstance(store, SharedStore) else time.time
        self.health = StoreHealth(loop, settings.store_wait_s, self._uncork_all)
        self.written = 0
        self.leases: dict[Lease, None] = {}
        self.opened = asyncio.Event()
        self._settings = settings
        self._loop = loop
        self._node = f"{name}{secrets.token_hex(8 - len(name) // 2)}"
        self.membership: Membership | None = None
        if isinstance(store, SharedStore):
            self.membership = Membership(store, settings.lease_s, self._node)
        self.fenced = 0
        self.write_s = 0.0
        self._changed: dict[Lease, None] = {}
        self._compared: dict[Lease, None] = {}  # to be written, even without changes
        self._speaking: dict[Lease, None] = {}
        self._releases = Releases(loop.time, self.wall, isinstance(store, SharedStore))
        self._deleted: dict[SessionId, None] = {}
        self._urgent = self._soon = self.stopping = False
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None
        self.store_life = StoreLife(self)
        self._life = loop.create_task(self.store_life.run(), name="store")
        self.health.watch()

    # --- sessions --------------------------------------------------------------------------------

    def lease(self) -> Lease:
        """Return the lease of a new session."""
        return self._add(Lease(self.changed, f"1.{self._node}", 0))

    def _add(self, lease: Lease) -> Lease:
        self.leases[lease] = None
        return lease

    async def read(self, session_id: SessionId) -> StoredSession | None:
        """Return a stored session, None for an unknown one.

        Raises:
            StoreError: The store cannot be read now.
            BadRecord: Its records are damaged.
        """
        await self.opened.wait()
        if session_id in self._releases.writes:
            await self.flush()
        if session_id in self._deleted:
            return None
        return await self.store.read(session_id)

    async def claim(self, session_id: SessionId, found: StoredSession) -> Lease | None:
        """Become a session's owner; None if another was faster or this one stops.

        Raises:
            StoreError: The store cannot be written now.
        """
        counter = found.fence.partition(".")[0]
        fence = f"{int(counter) + 1 if counter.isdecimal() else 1}.{self._node}"
        if not await self.store.claim(session_id, found.fence, found.writes, fence) or self.stopping:
            return None
        return self._add(Lease(self.changed, fence, found.writes))

    def adopt(self, found: StoredSession) -> Lease:
        """Return the lease of a session that a failing store cannot claim."""
        return self._add(Lease(self.changed, found.fence, found.writes))

    async def compare(self, lease: Lease) -> None:
        """Write a session, changed or not, to learn whether it is still ours."""
        if lease in self.leases:
            self._compare([lease])
            await self.flush()

    def _compare(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            self._compared[lease] = self._changed[lease] = None
        self._urgent = True  # also when a write is under way
        self._write_soon()

    def changed(self, lease: Lease, binds: bool) -> None:
        """Record that a session has something to write."""
        if binds and (lease not in self.leases or self.health.is_ignored):
            lease.uncork_silently()
        if lease not in self.leases:
            return
        self._changed[lease] = None
        if binds:
            self._urgent = True
            self._write_soon()
        else:
            self._tick_later()

    async def release(self, lease: Lease) -> None:
        """Give a session up, and wait until it is stored, for a bounded time."""
        self.forget(lease)
        await self.flush()

    def forget(self, lease: Lease) -> None:
        """Release a session forgotten here; delete one that its client closed."""
        if lease not in self.leases:
            return
        self._drop(lease)
        assert lease.host is not None
        session_id = lease.host.core.identity.session_id
        if lease.persistence.changes.closed:
            if len(self._deleted) < MAX_DELETIONS:
                self._deleted[session_id] = None
        elif self.health.works or (
            self.membership is not None and len(self._releases.writes) < MAX_DELETIONS
        ):
            self._releases.add(lease)
        lease.uncork()
        self._urgent = True
        self._write_soon()

    def _drop(self, lease: Lease) -> None:
        for leases in (self.leases, self._changed, self._compared, self._speaking):
            leases.pop(lease, None)

    def is_releasing(self, session_id: SessionId) -> bool:
        """Return whether a session was released that the store does not have yet."""
        return session_id in self._releases.writes

    def is_deleting(self, session_id: SessionId) -> bool:
        """Return whether a session was closed that the store still has."""
        return session_id in self._deleted

    def gauges(self) -> dict[str, float]:
        """Return figures for metrics, by the names of the metrics."""
        own = {
            "bargein_store_writes": self.written,
            "bargein_store_write_seconds": self.write_s,
            "bargein_store_unsaved_sessions": len(self._changed),
            "bargein_sessions_fenced": self.fenced,
        }
        return own | self.health.gauges() | (self.membership.gauges() if self.membership is not None else {})

    # --- writing ---------------------------------------------------------------------------------

    def _tick_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._settings.store_flush_s, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self.health.works or self.stopping:
            return
        if self._writing is None:
            self._begin({**self._changed, **self._speaking})
        if self._speaking or self._changed:
            self._tick_later()

    def _write_soon(self) -> None:
        if not self._soon and self._writing is None and self.health.works:
            self._soon = True
            self._loop.call_soon(self._write_changed)

    def _write_changed(self) -> None:
        self._soon = False
        if self._writing is None and self.health.works:
            self._begin(dict(self._changed))

    def _begin(self, leases: dict[Lease, None]) -> None:
        """Start a write of sessions, released ones and deletions."""
        self._urgent = False
        self._changed.clear()
        wall, whole = self.wall(), 0
        kept: list[Lease] = []
        writes: list[Write] = []
        for lease in leases:
            persistence = lease.persistence
            if persistence.changes.whole:
                whole += 1
                if whole > MAX_WHOLE:
                    self._changed[lease], self._urgent = None, True
                    continue
            changes = persistence.collect(self._loop.time(), wall)
            if self._compared and self._compared.pop(lease, 0) is None and changes is None:
                changes = Changes(persistence.last_seq, persistence.changes.mark)
            if changes is not None:
                kept.append(lease)
                writes.append(lease.write_of(changes, wall))
            if persistence.changes.speaking is not None:
                self._speaking[lease] = None
            else:
                self._speaking.pop(lease, None)
        if writes or self._releases.writes or self._deleted:
            self._writing = self._loop.create_task(
                self._write(kept, writes, list(self._releases.writes.values()), list(self._deleted)),
                name="store write",
            )
            self.health.watch()

    async def _write(
        self, leases: list[Lease], writes: list[Write], released: list[Write], deleted: list[SessionId]
    ) -> None:
        began = self._loop.time()
        try:
            outcomes: Sequence[Outcome] = ()
            if writes or released:
                outcomes = await self.store.write([*writes, *released])
            for session_id in deleted:
                await self.store.delete(session_id)
        except Exception as error:
            # The boundary to the store, which may be an author's: nobody falls silent because of it.
            self._writing = None
            self.fail(error)
            return
        self._writing = None
        self.write_s = self._loop.time() - began
        for write, outcome in zip(released, outcomes[len(writes) :], strict=True):
            self._releases.answered(write, outcome)
        for session_id in deleted:
            self._deleted.pop(session_id, None)
        self.written += len(writes)
        self.health.answered()
        for lease, write, outcome in zip(leases, writes, outcomes, strict=False):
            self._answered(lease, write, outcome)
        if self._urgent or self._releases.writes or self._deleted:
            self._write_soon()

    def _answered(self, lease: Lease, write: Write, outcome: Outcome) -> None:
        if lease not in self.leases:
            return
        if outcome is Outcome.STORED:
            lease.uncork(write.changes.mark)
        elif outcome is Outcome.BEHIND:
            lease.persistence.changes.store_all()
            self._urgent = True
        else:
            self._drop(lease)
            if outcome is Outcome.FENCED:
                self.fenced += 1
                log.warning("session %s was taken over by another server", write.session_id)
            assert lease.host is not None
            lease.host.taken(outcome is Outcome.CLOSED)

    # --- a store that is late or fails -------------------------------------------------------------

    def fail(self, error: Exception) -> None:
        """Go on in memory; everything is written anew later."""
        self.health.failed(error)
        if self.membership is None:
            self._releases.clear()
        self._releases.failed()
        for lease in self.leases:
            if lease.host is not None:
                lease.persistence.changes.store_all()
        self._uncork_all()
        self.store_life.broken.set()

    def _uncork_all(self) -> None:
        for lease in list(self.leases):
            if lease.host is not None:
                lease.uncork()

    def works_now(self) -> None:
        """Record that the store is open, and write everything."""
        if not self.opened.is_set():
            log.info("conversations are kept in %s", self.store)
        self.health.opened()
        self.opened.set()
        self._compare_all()

    async def sweep(self) -> None:
        """Forget sessions that were not used for `keep_s`.

        Raises:
            StoreError: The store cannot be used.
        """
        living = [lease.persistence.head.session_id for lease in self.leases if lease.host]
        await self.store.sweep(self.wall() - self._settings.keep_s, living)

    async def beat(self) -> None:
        """Renew the lease of this node, and see whether the store is as it was.

        Raises:
            StoreError: The store cannot be used.
        """
        self._releases.drop_old()
        if self.membership is not None and await self.membership.beat():
            self._compare_all()

    def _compare_all(self) -> None:
        self._releases.forgotten()
        self._compare(self.leases)

    # --- the end ---------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Wait until all changes are stored, for a bounded time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                while self.health.works and (
                    self._writing or self._changed or self._releases.writes or self._deleted
                ):
                    self._write_soon()
                    await (asyncio.wait([self._writing]) if self._writing is not None else asyncio.sleep(0))

    async def stop(self, hurried: asyncio.Event) -> None:
        """Release all sessions and close the store; `hurried` ends waits."""
        self.stopping = True  # a session that is claimed from now on would be told, and not stored
        for lease in list(self.leases):
            self.forget(lease)
        if self._releases.writes:  # those of a store that only this server uses are lost while it is away
            await self.health.comes_back(CLOSE_S, hurried)
        await self.flush()
        if self.membership is not None:
            await self.membership.leave()
        if self._timer is not None:
            self._timer.cancel()
        self.health.unwatch()
        self._life.cancel()
        await asyncio.wait([self._life])
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing])
        with suppress(StoreError):
            await self.store.close()
