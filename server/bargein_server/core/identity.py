"""Who may resume a session: whoever knows its token.

Only hashes are stored. A token is replaced each time a client attaches; the one before stays good
until the client's next frame shows that the new one has arrived, at most a minute, so that a lost
`session.opened` locks nobody out.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from bargein_protocol import SessionId, Token

OVERLAP_S = 60.0


class Identity:
    """A session's public id and the hash of its secret."""

    __slots__ = ("_current", "_previous", "_previous_until", "_proven", "session_id")

    def __init__(self, session_id: SessionId) -> None:
        self.session_id = session_id
        self._current = b""
        self._previous = b""
        self._previous_until = 0.0
        self._proven = b""  # what the client showed last

    def rotate(self, token: Token, now: float) -> None:
        """Make `token` the one that is good."""
        # The one before is that which the client has just shown, which need not be the last that it
        # was sent: its answers may have been lost twice.
        self._previous, self._previous_until = self._proven or self._current, now + OVERLAP_S
        self._proven = b""
        self._current = _digest(token)

    def confirm(self) -> None:
        """Take note that the client has the current token; the one before is void."""
        self._previous = b""

    def proves(self, token: Token, now: float) -> bool:
        """Return whether the token is good."""
        digest = _digest(token)
        good = bool(self._current) and hmac.compare_digest(digest, self._current)
        if not good and self._previous and now <= self._previous_until:
            good = hmac.compare_digest(digest, self._previous)
        if good:
            self._proven = digest
        return good


def _digest(token: Token) -> bytes:
    return sha256(token.encode()).digest()
