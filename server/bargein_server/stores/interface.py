"""Interface of a store, as `SqliteStore` and `RedisStore` have it.

A session has one owner, a process. The store is the owner's notebook: the owner writes behind what happens
in memory, and only a process that takes the session over reads. Each write carries the owner's *fence* and
the number of the write that it follows. So a process that has lost a session changes nothing, and a store
that has forgotten something is noticed. A claim changes the fence if both are still as they were read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from bargein_protocol import SessionId

from ..core.records import Changes, Stored

MAX_TITLE_CHARS = 120
"""Characters of a conversation's title in lists."""


def name_of(title: str) -> str | None:
    """Return a conversation's name as it is kept; None for an empty one.

    Args:
        title: The given name; each run of white space becomes one space, and control characters, which change
            terminals and logs, are left out.
    """
    words = "".join(char if unicodedata.category(char) != "Cc" or char.isspace() else "" for char in title)
    return " ".join(words.split())[:MAX_TITLE_CHARS] or None


class StoreError(Exception):
    """The store cannot be used now; the message has the cause and the remedy.

    Args:
        kind: Such as `full`, `locked`, `corrupt`, `read_only`, `newer`, `moved` or `unavailable`.
        message: One sentence for an operator, without content of users.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Outcome(Enum):
    """Result of one session's write."""

    STORED = "stored"
    FENCED = "fenced"
    """Another process has claimed the session: this one must end it without a word."""
    BEHIND = "behind"
    """The store has lost something of the session: it must be written anew, whole."""
    CLOSED = "closed"
    """Somebody has deleted the session."""

    __hash__ = object.__hash__


class Write(Struct, frozen=True):
    """One session's part of a batch, which is applied whole or not at all.

    Args:
        session_id: The session.
        fence: The owner's fence.
        follows: Number of the owner's writes before this one.
        changes: The changes.
        principal: The authenticated client; None without authentication.
        created_at: Start of the session, in seconds since 1970.
        used_at: The current time, in seconds since 1970.
        released: Whether the owner gives the session up; then nothing is missing in the store.
    """

    session_id: SessionId
    fence: str
    follows: int
    changes: Changes
    principal: str | None
    created_at: float
    used_at: float
    released: bool = False


class StoredSession(Struct, frozen=True):
    """A session as it was read.

    Args:
        stored: Its records.
        fence: The fence of its last owner.
        writes: Number of writes so far.
        used_at: Time of its last use, in seconds since 1970.
        forgot: Whether the store has forgotten something since the session was last written.
        older: Whether an earlier version of the records wrote it, so that a claim writes it anew, whole.
        name: Its name; None without one.
    """

    stored: Stored
    fence: str
    writes: int
    used_at: float
    forgot: bool = False
    older: bool = False
    name: str | None = None


ListPlace = tuple[float, SessionId]
"""Place in a list of sessions: time of the last use, in seconds since 1970, and id."""


class Summary(Struct, frozen=True, kw_only=True):
    """A stored session in a list.

    Args:
        session_id: Its id.
        principal: The authenticated client; None without authentication.
        title: Its name, or the start of its first input.
        named: Whether somebody has named it.
        turns: Number of its turns.
        created_at: Time of its start, in seconds since 1970.
        used_at: Time of its last use, in seconds since 1970.
    """

    session_id: SessionId
    principal: str | None
    title: str
    named: bool = False
    turns: int
    created_at: float
    used_at: float


class Store(Protocol):
    """Keeper of sessions; calls take effect in order.

    Every method raises `StoreError` when the store cannot be used. Cancelling a call does not undo it.
    """

    async def open(self) -> None:
        """Open the store, and bring its records to the current version.

        It may be called again after an error.
        """
        ...

    async def write(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write a batch; return the outcome of each session's part.

        The batch is durable against the end of the process when this returns.
        """
        ...

    async def read(self, session_id: SessionId) -> StoredSession | None:
        """Return a session, None for an unknown one.

        Raises:
            BadRecord: Its records are damaged.
        """
        ...

    async def claim(self, session_id: SessionId, expected: str, writes: int, fence: str) -> bool:
        """Change the owner of a session that is still as it was read.

        Args:
            session_id: The session.
            expected: Its fence when it was read.
            writes: Number of its writes then.
            fence: The new owner's fence.

        Returns:
            False when another process was faster.
        """
        ...

    async def sessions(
        self,
        principal: str | None,
        *,
        every: bool = False,
        limit: int = 100,
        before: ListPlace | None = None,
    ) -> list[Summary]:
        """Return sessions, the last used first.

        Args:
            principal: Whose sessions.
            every: Those of all principals instead.
            limit: Maximum number.
            before: Only those that follow this place; sessions may have been used at the same time.
        """
        ...

    async def rename(self, session_id: SessionId, name: str | None) -> bool:
        """Name a session of any owner; return whether it was there.

        Args:
            session_id: The session.
            name: The name; None to take it away.
        """
        ...

    async def delete(self, session_id: SessionId) -> bool:
        """Forget a session for good; return whether it was there.

        A later write of its owner is answered `CLOSED`.
        """
        ...

    async def sweep(self, used_before: float, living: Sequence[SessionId]) -> int:
        """Forget sessions that were last used before a time; return their number.

        Args:
            used_before: The time, in seconds since 1970.
            living: Sessions that are in use, which are kept.
        """
        ...

    async def close(self) -> None:
        """Close the store after all calls before."""
        ...
