"""Places of a server's sessions, and which session makes room."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bargein_protocol import SessionId

from ..guard.limits import ByteBudget
from ..settings import share_of
from .host import SessionHost

_MAX_SCANNED = 32
"""Sessions that are looked at for one that is idle; the number of sessions is the clients' choice."""


class SessionPool:
    """Sessions of a server, within limits and a share of them for each client.

    When there is no room, the idle session whose client is away for longest makes room. A client that has
    more sessions, or keeps more bytes, than others gives up one of its own first.

    Args:
        most: Maximum number of sessions.
        most_bytes: Maximum number of bytes that they keep.
        share: Part of both that one client may have.

    Attributes:
        kept: Bytes that the sessions keep, as of when each was weighed last.
    """

    def __init__(self, most: int, most_bytes: int, share: float) -> None:
        self._most = most
        self._of_one = share_of(most, share)
        self.kept = ByteBudget(most_bytes, share)
        self._hosts: dict[SessionId, SessionHost] = {}
        self._by_owner: Counter[str] = Counter()
        self._away: dict[SessionHost, None] = {}  # the longest away first
        self._away_of: dict[str, dict[SessionHost, None]] = {}

    def __len__(self) -> int:
        return len(self._hosts)

    def __iter__(self) -> Iterator[SessionHost]:
        return iter(list(self._hosts.values()))

    def has(self, session_id: SessionId) -> bool:
        """Return whether a session is in memory."""
        return session_id in self._hosts

    def get(self, session_id: SessionId) -> SessionHost | None:
        """Return a session, None for an unknown one."""
        return self._hosts.get(session_id)

    def add(self, host: SessionHost) -> None:
        """Add a session."""
        self._hosts[host.core.identity.session_id] = host
        self._by_owner[host.owner] += 1

    def remove(self, host: SessionHost) -> bool:
        """Remove a session; return whether it was there."""
        if self._hosts.pop(host.core.identity.session_id, None) is None:
            return False
        self.attached(host)
        self.kept.give_back(host.owner, host.kept_bytes)
        self._by_owner[host.owner] -= 1
        if not self._by_owner[host.owner]:
            del self._by_owner[host.owner]
        return True

    def attached(self, host: SessionHost) -> None:
        """Record that a session has its client."""
        self._away.pop(host, None)
        own = self._away_of.get(host.owner)
        if own is not None:
            own.pop(host, None)
            if not own:
                del self._away_of[host.owner]

    def detached(self, host: SessionHost) -> None:
        """Record that the client of a session is away."""
        if host.core.identity.session_id in self._hosts:
            self._away[host] = None
            self._away_of.setdefault(host.owner, {})[host] = None

    def weigh(self, host: SessionHost) -> bool:
        """Count a session's memory; return whether its client may keep more."""
        if host.core.identity.session_id in self._hosts:
            size = host.core.kept_bytes
            self.kept.add(host.owner, size - host.kept_bytes)
            host.kept_bytes = size
        return not self.kept.exceeded(host.owner)

    def has_room(self, owner: str) -> bool:
        """Return whether a client may have one more session beside all others."""
        return len(self._hosts) < self._most and not self._has_share(owner)

    def heavy(self, owner: str) -> SessionHost | None:
        """Return the session that makes room for the bytes of a client, if any."""
        own = self._away_of.get(owner, {}) if owner else {}
        if self.kept.share_exceeded(owner):
            return _first_idle(own)
        if self.kept.above_average(owner):
            return _first_idle(own) or _first_idle(self._away)
        return _first_idle(self._away)

    def idle(self, owner: str) -> SessionHost | None:
        """Return the session that makes room for a client's next one, if any.

        Args:
            owner: The client (`Caller.owner`); empty for one that cannot be told from others.
        """
        own = self._away_of.get(owner, {}) if owner else {}
        if self._has_share(owner):
            return _first_idle(own)
        if self._by_owner[owner] * len(self._by_owner) > len(self._hosts):  # more than the average
            return _first_idle(own) or _first_idle(self._away)
        return _first_idle(self._away)

    def share_used(self, owner: str) -> bool:
        """Return whether there is room, but for this client."""
        full = len(self._hosts) >= self._most or self.kept.exceeded("")
        return not full and (self._has_share(owner) or self.kept.share_exceeded(owner))

    def _has_share(self, owner: str) -> bool:
        return bool(owner) and self._by_owner[owner] >= self._of_one


def _first_idle(hosts: dict[SessionHost, None]) -> SessionHost | None:
    for _ in range(min(_MAX_SCANNED, len(hosts))):
        host = next(iter(hosts))
        if not host.core.busy and not host.followers:
            return host
        del hosts[host]
        hosts[host] = None  # a session that is in use goes behind the others
    return None
