"""Model of a store: dictionaries that outlive the server of a test.

It passes the suite of the interface, so that a test with it says what a test with a real store would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bargein_protocol import SessionId, TurnId
from bargein_server.core.records import Changes, Stored, decoded
from bargein_server.stores.interface import ListPlace, Outcome, StoredSession, StoreError, Summary, Write


class Kept:
    """Records of one session.

    Attributes:
        fence: Fence of its owner.
        writes: Number of writes.
    """

    def __init__(self, write: Write) -> None:
        self.fence, self.writes = write.fence, 0
        self.principal, self.created_at, self.used_at = write.principal, write.created_at, write.used_at
        self.clean = False
        self.name: str | None = None
        self.head = b""
        self.seq = 0
        self.turns: dict[TurnId, tuple[int, bytes]] = {}
        self.replies: dict[str, bytes] = {}
        self.pieces: list[tuple[TurnId, int, bytes]] = []

    @classmethod
    def of(cls, changes: Changes) -> Kept:
        """Return the records of a session that is written without a keeper."""
        kept = cls(Write(SessionId("s"), "1.a", 0, changes, None, 0.0, 0.0))
        kept.change(changes)
        return kept

    def apply(self, write: Write) -> None:
        """Take a write."""
        self.writes = write.follows + 1
        self.change(write.changes)
        if write.released or write.changes.head or write.changes.turns:
            self.used_at, self.clean = write.used_at, write.released

    def change(self, changes: Changes) -> None:
        """Take changes."""
        if changes.whole:
            self.turns, self.replies, self.pieces = {}, {}, []
        self.seq = changes.seq
        self.head = changes.head if changes.head is not None else self.head
        self.turns |= {turn_id: (position, record) for turn_id, position, record in changes.turns}
        for turn_id in changes.dropped:
            self.turns.pop(turn_id, None)
        self.pieces = [piece for piece in self.pieces if piece[0] not in changes.ended]
        self.replies = dict(changes.replies) | self.replies if changes.whole else self.replies
        for request_id, reply in changes.replies:
            self.replies.setdefault(request_id, reply)
        self.pieces += changes.pieces

    def stored(self) -> Stored:
        """Return the decoded records."""
        return decoded(
            self.head,
            self.seq,
            self.clean,
            [(position, record.decode()) for position, record in sorted(self.turns.values())],
            [(request_id, reply.decode()) for request_id, reply in self.replies.items()],
            [piece.decode() for _, _, piece in self.pieces],
        )


class MemoryStore:
    """A store; implements `Store`.

    Args:
        data: The sessions, shared by all stores of the same data.
        before: Called with the name of each call before it takes effect; may raise, or wait.
        after: Called after it took effect.

    Attributes:
        deleted: Sessions that were deleted.
    """

    def __init__(
        self,
        data: dict[SessionId, Kept],
        before: Callable[[str], None] = lambda call: None,
        after: Callable[[str], None] = lambda call: None,
    ) -> None:
        self.data = data
        self.deleted: set[SessionId] = data.setdefault(SessionId(""), set())  # type: ignore[arg-type,assignment]
        self._before = before
        self._after = after
        self._open = False

    async def open(self) -> None:
        """Open it."""
        self._before("open")
        self._open = True

    def _check(self, call: str) -> None:
        self._before(call)
        if not self._open:
            raise StoreError("unavailable", "not open")

    async def write(self, writes: Sequence[Write]) -> list[Outcome]:
        """Write a batch."""
        self._check("write")
        outcomes = [self._write(write) for write in writes]
        self._after("write")
        return outcomes

    def _write(self, write: Write) -> Outcome:
        if write.session_id in self.deleted:
            return Outcome.CLOSED
        kept = self.data.get(write.session_id)
        if kept is None:
            if not write.changes.whole:
                return Outcome.BEHIND
            kept = self.data[write.session_id] = Kept(write)
        if kept.fence != write.fence:
            if int(kept.fence.split(".")[0]) >= int(write.fence.split(".")[0]):
                return Outcome.FENCED
            if not write.changes.whole:
                return Outcome.BEHIND
            kept.fence = write.fence
        if not write.changes.whole and kept.writes != write.follows:
            return Outcome.BEHIND
        kept.apply(write)
        return Outcome.STORED

    async def read(self, session_id: SessionId) -> StoredSession | None:
        """Return a session."""
        self._check("read")
        kept = self.data.get(session_id) if session_id else None
        if kept is None:
            return None
        return StoredSession(kept.stored(), kept.fence, kept.writes, kept.used_at, name=kept.name)

    async def claim(self, session_id: SessionId, expected: str, writes: int, fence: str) -> bool:
        """Change the owner."""
        self._check("claim")
        kept = self.data.get(session_id)
        if kept is None or (kept.fence, kept.writes) != (expected, writes):
            return False
        kept.fence, kept.clean = fence, False
        self._after("claim")
        return True

    async def sessions(
        self,
        principal: str | None,
        *,
        every: bool = False,
        limit: int = 100,
        before: ListPlace | None = None,
    ) -> list[Summary]:
        """Return sessions."""
        self._check("sessions")
        found = [
            (session_id, kept)
            for session_id, kept in self.data.items()
            if session_id
            and (every or kept.principal == principal)
            and (before is None or (kept.used_at, session_id) < before)
        ]
        found.sort(key=lambda pair: (pair[1].used_at, pair[0]), reverse=True)
        return [_summary(session_id, kept) for session_id, kept in found[:limit]]

    async def rename(self, session_id: SessionId, name: str | None) -> bool:
        """Name a session."""
        self._check("rename")
        kept = self.data.get(session_id) if session_id else None
        if kept is not None:
            kept.name = name
        return kept is not None

    async def delete(self, session_id: SessionId) -> bool:
        """Forget a session."""
        self._check("delete")
        self.deleted.add(session_id)
        found = self.data.pop(session_id, None) is not None
        self._after("delete")
        return found

    async def sweep(self, used_before: float, living: Sequence[SessionId]) -> int:
        """Forget old sessions."""
        self._check("sweep")
        old = [
            session_id
            for session_id, kept in self.data.items()
            if session_id and kept.used_at < used_before and session_id not in living
        ]
        for session_id in old:
            del self.data[session_id]
        return len(old)

    async def close(self) -> None:
        """Close it."""
        self._open = False


def _summary(session_id: SessionId, kept: Kept) -> Summary:
    turns = kept.stored().turns
    first = turns[0][1].input.text[:120] if turns else ""
    return Summary(
        session_id=session_id,
        principal=kept.principal,
        title=first if kept.name is None else kept.name,
        named=kept.name is not None,
        turns=len(turns),
        created_at=kept.created_at,
        used_at=kept.used_at,
    )
