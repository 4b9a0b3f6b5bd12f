"""Restoring: sessions that an earlier process has left in the store.

A session comes back when its client does, with its principal and its token. What ran in the earlier process
has failed by then (`Persistence.restore`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from bargein_protocol import Code, Resume, SessionId, Token
from bargein_protocol.errors import OVERLOADED

from ..core.identity import Identity
from ..core.records import BadRecord, Head
from ..stores.interface import StoredSession, StoreError
from .keeper import Keeper
from .lease import Lease

log = logging.getLogger("bargein.store")

PATIENCE_S = 30.0
"""Time for which clients are asked to come again to a store that fails; then their sessions count as lost."""

Admits = Callable[[Head], bool]
"""Whether a client may have a session, by its head: its principal and its token are right."""


def admits_token(token: Token, principal: str | None, wall: float, head: Head) -> bool:
    """Return whether a principal with a token may have a stored session."""
    identity = Identity(head.session_id)
    identity.restore((head.token, head.previous, head.previous_until, head.confirmed))
    return head.principal == principal and identity.proves(token, wall)


class Restorer:
    """Restores the stored sessions of one server.

    Args:
        keeper: The keeper of the server's sessions.
        keep_s: Age at which stored sessions are forgotten.
        known: Returns whether a session is in memory.
        make_room: Makes room for a session of a client; returns whether there is room.
        create: Puts a session into memory.
        wall: Returns the time in seconds since 1970.
    """

    def __init__(
        self,
        keeper: Keeper,
        keep_s: float,
        known: Callable[[SessionId], bool],
        make_room: Callable[[str], bool],
        create: Callable[[StoredSession, Lease], object],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._keeper = keeper
        self._keep_s = keep_s
        self._known = known
        self._make_room = make_room
        self._create = create
        self._wall = wall
        self._pending: dict[SessionId, asyncio.Future[None]] = {}

    def is_needed(self, session_id: SessionId) -> bool:
        """Return whether a session is not in memory, so that the store may have it."""
        return not self._known(session_id)

    async def restore_resumed(self, resume: Resume | None, principal: str | None) -> Code | None:
        """Put the session that a client wants to resume into memory, as `restore` does."""
        if resume is None or self._known(resume.session_id):
            return None
        return await self.restore(
            resume.session_id, partial(admits_token, resume.token, principal, self._wall())
        )

    async def restore(self, session_id: SessionId, admits: Admits) -> Code | None:
        """Put a stored session into memory, if there is one and it admits the client.

        Cancelling it leaves the session where it is.

        Returns:
            The code to refuse the client with, which it answers by coming again; None in all other cases.
        """
        while (pending := self._pending.get(session_id)) is not None:
            await asyncio.wait([pending])
        if self._known(session_id):
            return None
        pending = self._pending[session_id] = asyncio.get_running_loop().create_future()
        try:
            return await self._restore(session_id, admits)
        finally:
            del self._pending[session_id]
            pending.set_result(None)

    async def _restore(self, session_id: SessionId, admits: Admits) -> Code | None:
        keeper = self._keeper
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await keeper.read(session_id)
        except TimeoutError:
            return OVERLOADED
        except BadRecord as error:
            log.error("a stored session is damaged and counts as lost: %s", error)
            return None
        except StoreError:
            return OVERLOADED if keeper.health.ignored_s < PATIENCE_S else None
        if found is None or found.used_at < self._wall() - self._keep_s or not admits(found.stored.head):
            return None
        if not self._make_room(found.stored.head.owner):
            return OVERLOADED
        lease = await self._claim(session_id, found)
        if lease is None:
            return OVERLOADED  # another process was faster; the client finds it there
        self._create(found, lease)
        return None

    async def _claim(self, session_id: SessionId, found: StoredSession) -> Lease | None:
        try:
            return await self._keeper.claim(session_id, found)
        except StoreError:
            return self._keeper.adopt(found)  # a full disk can be read: the session goes on in memory
