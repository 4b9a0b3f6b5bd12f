"""Viewer token of a session: the secret of its cookie."""

from __future__ import annotations

import secrets
from hashlib import sha256

from msgspec.structs import replace

from ..core.identity import is_digest_of
from ..core.persistence import Persistence


class ViewerToken:
    """Secret that lets a browser follow and interrupt a session.

    It cannot resume, and outlives the session's tokens. Only a client that was authenticated as the
    session's principal gets one, so it is a proof of that.
    """

    __slots__ = ("_digest",)

    def __init__(self, digest: bytes = b"") -> None:
        self._digest = digest

    @property
    def digest(self) -> bytes:
        """Hash of the newest secret; empty without one."""
        return self._digest

    def renew(self, persistence: Persistence | None) -> str:
        """Return a new secret; the previous one becomes void.

        Args:
            persistence: Records of the session, which keep its hash.
        """
        token = secrets.token_urlsafe(32)
        self._digest = sha256(token.encode()).digest()
        if persistence is not None:
            persistence.head = replace(persistence.head, viewer=self._digest)
            persistence.changes.touch_head()
        return token

    def is_proved_by(self, token: str) -> bool:
        """Return whether this is the newest secret."""
        return is_digest_of(token, self._digest)
