"""Identity of a session: its public id and the tokens that resume it.

Only hashes of tokens are stored. A token is replaced each time a client attaches. The previous one stays
valid until the client's next frame shows that the new one has arrived, at most a minute, so that a client
can resume when `session.opened` was lost.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from hashlib import sha256

from bargein_protocol import (
    MAX_PENDING,
    Epoch,
    Limits,
    SessionAudio,
    SessionId,
    SessionOpened,
    Token,
    TurnId,
)

from ..settings import Settings

OVERLAP_S = 60.0
GRANTED_S = 366 * 24 * 3600.0
"""Time for which the driver of a session keeps its token beside one that was granted and is not used."""


class Identity:
    """A session's public id and the hash of its secret.

    Attributes:
        session_id: The public id.
        confirmed: Whether the previous token is void: a frame has shown that the client has the current one.
    """

    __slots__ = ("_attachments", "_current", "_previous", "_previous_until", "confirmed", "session_id")

    def __init__(self, session_id: SessionId, attachments: Sequence[str] = ()) -> None:
        self._attachments = attachments  # media types of the files that the agent takes
        self.session_id = session_id
        self.confirmed = True
        self._current = b""
        self._previous = b""
        self._previous_until = 0.0

    def rotate(self, token: Token, now: float, shown: Token | None = None) -> None:
        """Replace the token.

        Args:
            token: The new token.
            now: The time in seconds.
            shown: The token that the client has just presented; it stays valid for a while. It need not
                be the last one that was sent, because the answers with later ones may have been lost. Its
                time begins when it is replaced for the first time; presenting it again does not extend it.
        """
        digest = _digest(shown) if shown is not None else b""
        if not digest or digest != self._previous:
            self._previous_until = now + OVERLAP_S
        self._previous_until = min(self._previous_until, now + OVERLAP_S)
        self._previous = digest
        self.confirmed = shown is None
        self._current = _digest(token)

    def opened(
        self,
        token: Token,
        epoch: Epoch,
        settings: Settings,
        resumed: bool,
        reason: str | None,
        turn_id: TurnId | None,
        audio: SessionAudio | None,
    ) -> SessionOpened:
        """Return the answer to a client's first frame."""
        return SessionOpened(
            session_id=self.session_id,
            token=token,
            epoch=epoch,
            resumed=resumed,
            reason=reason,
            turn_id=turn_id,
            heartbeat_ms=int(settings.heartbeat_s * 1000),
            limits=limits_of(settings, self._attachments),
            audio=audio,
        )

    def grant(self, token: Token, now: float) -> None:
        """Add a token for the owner; its driver keeps the one that it has.

        The new one may never be used. The token before it is valid until then.
        """
        if self._previous_until <= now + OVERLAP_S:  # else the current one was granted and is not used
            self._previous, self._previous_until = self._current, now + GRANTED_S
        self._current = _digest(token)
        self.confirmed = True

    def confirm(self) -> None:
        """Record that the client has the current token; the previous one is void."""
        self._previous = b""
        self.confirmed = True

    def hashes(self) -> tuple[bytes, bytes, float, bool]:
        """Return the newest hash, the previous one with its end, and validity."""
        return self._current, self._previous, self._previous_until, self.confirmed

    def restore(self, hashes: tuple[bytes, bytes, float, bool]) -> None:
        """Set the values of `hashes`."""
        self._current, self._previous, self._previous_until, self.confirmed = hashes

    def is_current(self, token: Token) -> bool:
        """Return whether this is the newest token."""
        return bool(self._current) and hmac.compare_digest(_digest(token), self._current)

    def proves(self, token: Token, now: float) -> bool:
        """Return whether the token is valid."""
        digest = _digest(token)
        valid = self.is_current(token)
        if not valid and self._previous and now <= self._previous_until:
            valid = hmac.compare_digest(digest, self._previous)
        return valid


def is_digest_of(secret: str, digest: bytes) -> bool:
    """Return whether a hash is that of a secret; False for an empty one."""
    return bool(digest) and hmac.compare_digest(sha256(secret.encode("utf-8", "replace")).digest(), digest)


def _digest(token: Token) -> bytes:
    return sha256(token.encode()).digest()


def limits_of(settings: Settings, attachments: Sequence[str]) -> Limits:
    """Return the limits that a client gets with its session."""
    return Limits(
        frame_bytes=settings.max_frame_bytes,
        pending=MAX_PENDING,
        queued=settings.max_queued_inputs,
        attachments=list(attachments),
    )
