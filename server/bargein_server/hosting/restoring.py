"""Restoring: sessions that another process stored or must release.

A session comes back when its client does, with its principal and its token. What ran in the earlier process
has failed by then (`Persistence.restore`).

In a store that many servers share, the owner may live. It is asked to release the session: it does if no
turn runs, and if the client has shown the token. An owner whose lease is over, or whose port refuses, is
dead, and its sessions are claimed.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections.abc import Callable
from enum import Enum
from functools import partial
from hashlib import sha256

from msgspec import Struct
from msgspec.structs import replace

from bargein_protocol import Code, Resume, SessionId, Token
from bargein_protocol.errors import OVERLOADED

from ..core.identity import Identity
from ..core.principal import id_of
from ..core.records import BadRecord, Head
from ..guard.limits import RareLog
from ..stores.interface import StoredSession, StoreError
from ..stores.shared import MoveRequest
from .keeper import Keeper
from .lease import Lease
from .membership import BEAT_S, BUSY, FORGOTTEN, FREE, GONE, LEASE, MOVED, REFUSED, RELEASED, Membership
from .session_pool import SessionPool

log = logging.getLogger("bargein.store")
rare_log = RareLog(log)

PATIENCE_S = 30.0
"""Time for which clients are asked to come again to a store that fails; then their sessions count as lost."""

ASK_S = 1.0
"""Time for an answer of a session's owner."""

BUSY_S = 1.0
"""Time for which a client waits for the turn of its session to end at another node."""

MARGIN_S = 0.5
"""Time beyond a lease after which its node counts as dead or the client comes again."""

NOTICED_S = 2 * BEAT_S
"""Time in which a store that has just forgotten something shows that to the nodes whose records it had."""

NOT_NOW = replace(OVERLOADED, reason="the conversation cannot be read now")
"""Code for a client that comes again, because the store or the owner of its session does not answer."""

OWN_ID_PREFIX = "c_"
"""Start of the ids of sessions that clients name by ids of their own, which are their only secrets."""

Admits = Callable[[Head], bool]
"""Whether a client may have a session, by its head: its principal and its token are right."""


def admits_token(token: Token, principal: str | None, wall: Callable[[], float], head: Head) -> bool:
    """Return whether a principal with a token may have a stored session.

    The time is that of the store, which is known when the session was read.
    """
    identity = Identity(head.session_id)
    identity.restore((head.token, head.previous, head.previous_until, head.confirmed))
    return head.principal == principal and identity.proves(token, wall())


class Shown(Struct, frozen=True):
    """Secrets that a client has shown, for the owner of the session.

    Args:
        principal: The authenticated client; None without authentication.
        token: The session's token; None if the client has shown something else.
        own_id: Whether it has shown its own id of the session, of which the session's id is a hash.
        came_at: When its connection came, on the event loop's clock; None for one that has just come.
    """

    principal: str | None = None
    token: Token | None = None
    own_id: bool = False
    came_at: float | None = None

    def request(self, session_id: SessionId, now: float) -> MoveRequest | None:
        """Return the request to release a session; None without a token."""
        if self.token is None and not self.own_id:
            return None
        digest = b"" if self.token is None else sha256(self.token.encode("utf-8", "replace")).digest()
        age_s = 0.0 if self.came_at is None else now - self.came_at
        return MoveRequest(secrets.token_hex(8), session_id, id_of(self.principal), digest, age_s)


NOTHING = Shown()


class Search(Enum):
    """Result of the search for a session's owner."""

    CLAIM = "claim"
    """It has none, or a dead one."""
    REFUSED = "refused"
    """Its owner refuses the client."""
    LATER = "later"
    """Its owner lives and keeps it: the client comes again."""

    __hash__ = object.__hash__


class Restorer:
    """Restores a server's stored sessions, and releases those asked for.

    Args:
        keeper: The keeper of the server's sessions.
        keep_s: Age at which stored sessions are forgotten.
        pool: The sessions in memory.
        make_room: Makes room for a session of a client; returns whether there is room.
        create: Puts a session into memory.
    """

    def __init__(
        self,
        keeper: Keeper,
        keep_s: float,
        pool: SessionPool,
        make_room: Callable[[str], bool],
        create: Callable[[StoredSession, Lease], object],
    ) -> None:
        self._keeper = keeper
        self._keep_s = keep_s
        self._pool = pool
        self._make_room = make_room
        self._create = create
        self._loop = asyncio.get_running_loop()
        self._pending: dict[SessionId, asyncio.Future[None]] = {}
        self._next_beat: asyncio.Task[None] | None = None
        self._beats = asyncio.Lock()
        if keeper.membership is not None:
            keeper.membership.asked = self.release

    def is_needed(
        self, session_id: SessionId, resume: Resume | None = None, principal: str | None = None
    ) -> bool:
        """Return whether a session may be in the store and is not in memory.

        In a store that many servers share, it may also have a newer one than memory, which shows when this
        server would refuse the client.
        """
        host = self._pool.get(session_id)
        if host is None:
            return True
        if resume is None or self._keeper.membership is None:
            return False
        return host.view.principal != principal or host.core.refusal(resume, self._loop.time()) is not None

    async def restore_resumed(
        self, resume: Resume | None, principal: str | None, came_at: float | None = None
    ) -> Code | None:
        """Put the session that a client resumes into memory, as `restore` does."""
        if resume is None or not self.is_needed(resume.session_id, resume, principal):
            return None
        admits = partial(admits_token, resume.token, principal, self._keeper.wall)
        return await self.restore(resume.session_id, admits, Shown(principal, resume.token, came_at=came_at))

    async def restore(self, session_id: SessionId, admits: Admits, shown: Shown = NOTHING) -> Code | None:
        """Put a stored session into memory, if it exists and admits the client.

        Cancelling it leaves the session where it is.

        Returns:
            The code to refuse the client with, which it answers by coming again; None in all other cases.
        """
        while (pending := self._pending.get(session_id)) is not None:
            await asyncio.wait([pending])
        pending = self._pending[session_id] = self._loop.create_future()
        try:
            if (host := self._pool.get(session_id)) is not None:
                if self._keeper.membership is None or host.lease is None:
                    return None
                # Before this server refuses a client, it looks whether another one has taken the session.
                await self._keeper.membership.settled()
                await self._keeper.compare(host.lease)
                if self._pool.has(session_id):
                    return None if self._keeper.health.works else NOT_NOW
            return await self._restore(session_id, admits, shown)
        finally:
            del self._pending[session_id]
            pending.set_result(None)

    async def _restore(self, session_id: SessionId, admits: Admits, shown: Shown) -> Code | None:
        keeper, membership, why = self._keeper, self._keeper.membership, FREE
        if membership is not None and keeper.opened.is_set() and not keeper.health.works:
            return NOT_NOW  # it may answer again, but owners have not written what it has missed
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await self._read(session_id)
                if membership is not None:
                    found, search, why = await self._search(session_id, found, membership, shown, admits)
                    if search is Search.LATER:
                        return NOT_NOW
                    if search is Search.REFUSED:
                        return None
        except TimeoutError:
            return NOT_NOW
        except BadRecord as error:
            log.error("a stored session is damaged and counts as lost: %s", error)
            return None
        except StoreError as error:
            if error.kind == "corrupt" and keeper.health.works:  # only this session: others are written
                rare_log.warning("a stored session is damaged and counts as lost: %s", error)
                return None
            keeper.store_life.unusable(error)
            lost = membership is None and keeper.health.ignored_s >= PATIENCE_S
            return None if lost else NOT_NOW
        if found is None or found.used_at < keeper.wall() - self._keep_s or not admits(found.stored.head):
            return None
        if not self._make_room(found.stored.head.owner):
            return OVERLOADED
        lease = await self._claim(session_id, found)
        if lease is None:
            return NOT_NOW  # another process was faster; the client finds it there
        if membership is not None:
            membership.claimed[why] += 1
        self._create(found, lease)
        if found.older:  # parts of two versions in one session would be those of neither
            lease.persistence.changes.store_all()
        return None

    async def _read(self, session_id: SessionId) -> StoredSession | None:
        """Return a stored session; a late answer makes the store young.

        A beat after it may be fast, and would not show that the store was away at the time of the read.

        Raises:
            StoreError: The store cannot be read now.
            BadRecord: The records are damaged.
        """
        began = self._loop.time()
        try:
            return await self._keeper.read(session_id)
        finally:
            if self._keeper.membership is not None:
                self._keeper.membership.answered(began)

    async def _claim(self, session_id: SessionId, found: StoredSession) -> Lease | None:
        try:
            return await self._keeper.claim(session_id, found)
        except StoreError:
            if self._keeper.membership is not None:
                return None  # another server might do the same
            return self._keeper.adopt(found)  # a full disk can be read: the session goes on in memory

    # --- owners that live --------------------------------------------------------------------------

    async def _search(
        self,
        session_id: SessionId,
        found: StoredSession | None,
        membership: Membership,
        shown: Shown,
        admits: Admits,
    ) -> tuple[StoredSession | None, Search, str]:
        """Return the records of a session, and whether and why it is claimable.

        Raises:
            StoreError: The store cannot be used.
            BadRecord: The records are damaged.
        """
        deadline = self._loop.time() + membership.lease_s + MARGIN_S
        busy_until = self._loop.time() + BUSY_S
        why, sure = FREE, shown.own_id  # a new conversation by a client's own id is unknown as a rule
        while True:
            await self._beat()
            if membership.is_young:
                await membership.settled()
                found = await self._read(session_id)
                continue
            owner = membership.owner_of(found) if found is not None else None
            if owner is None and not sure and not (found is not None and admits(found.stored.head)):
                sure = True
                await asyncio.sleep(NOTICED_S)
                found = await self._read(session_id)
                continue
            if owner is None:
                return found, Search.CLAIM, why
            node, dead = await membership.find(owner)
            if node is None:
                held = dead == LEASE and await membership.is_held(session_id, owner)
                return found, Search.LATER if held else Search.CLAIM, dead
            request = shown.request(session_id, self._loop.time())
            left_s = deadline - self._loop.time()
            if request is None or left_s < 0:
                return found, Search.LATER, why
            # A node that stands still is looked up once more when its lease must be over.
            answer, before = await membership.ask(node, request, min(ASK_S, left_s)), found
            if answer == REFUSED:
                return found, Search.REFUSED, why
            if answer == RELEASED:
                why = MOVED
            if answer not in (RELEASED, GONE):
                if answer == BUSY and self._loop.time() > busy_until:
                    return found, Search.LATER, why
                await asyncio.sleep(BEAT_S)
            found = await self._read(session_id)
            if answer == GONE and before is not None and found is not None and found.fence == before.fence:
                return found, Search.CLAIM, FORGOTTEN

    async def _beat(self) -> None:
        """Wait for a beat that begins from now on; searches share it.

        Raises:
            StoreError: The store cannot be used.
        """
        if self._next_beat is None:
            self._next_beat = self._loop.create_task(self._beat_next(), name="beat")
            self._next_beat.add_done_callback(_noticed)
        await asyncio.shield(self._next_beat)

    async def _beat_next(self) -> None:
        async with self._beats:
            self._next_beat = None
            await self._keeper.beat()

    async def release(self, request: MoveRequest) -> str:
        """Release a session whose client is at another node; return the answer."""
        host = self._pool.get(request.session_id)
        if host is None or host.lease is None or host.lease not in self._keeper.leases:
            await self._keeper.flush()
            return BUSY if self._keeper.is_releasing(request.session_id) else GONE
        now, identity = self._loop.time(), host.core.identity
        current, previous, until, _ = identity.hashes()
        valid = hmac.compare_digest(request.digest, current) or (
            bool(previous) and now <= until and hmac.compare_digest(request.digest, previous)
        )
        valid = valid or (not request.digest and request.session_id.startswith(OWN_ID_PREFIX))
        if host.view.principal != request.principal or not valid:
            return REFUSED
        if host.core.busy or host.tasks() or host.lease.persistence.awaits_results:
            return BUSY
        if host.connection is not None:
            if (now - request.age_s) * 1e9 < host.newest:  # the client has come here since
                return BUSY
            host.connection.replaced()
        host.act(host.core.expire)
        await self._keeper.flush()
        return BUSY if self._keeper.is_releasing(request.session_id) else RELEASED


def _noticed(task: asyncio.Task[None]) -> None:
    """Take an error of a task that is not waited for any more."""
    if not task.cancelled():
        task.exception()
