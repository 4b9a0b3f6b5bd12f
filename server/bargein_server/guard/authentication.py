"""Who a client is.

Two ways are built in. A *bearer token* is sent in the `Authorization` header, or in the first frame by
those who cannot set headers. A *ticket* is for browsers, which cannot: their backend, or the page with
its own token, asks for one over HTTP, and it is good once and for half a minute, as an item of the
subprotocol list or in the first frame. Neither is ever part of a URL, which is logged on the way.

Another way is any object with `principal_of`.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import Protocol

TICKET_ITEM = "bargein.ticket."
"""What a ticket in the list of subprotocols begins with; the item is never selected."""


class Authenticator(Protocol):
    """Turns a credential into a principal: the name of who it belongs to."""

    def principal_of(self, credential: str) -> str | None:
        """Return whose credential it is, None when it is nobody's. It must not block."""
        ...


class BearerTokens:
    """A fixed list of tokens.

    Args:
        tokens: The principal of each token.
    """

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._principals = {_digest(token): principal for token, principal in tokens.items()}

    def principal_of(self, credential: str) -> str | None:
        """Return whose token it is."""
        digest = _digest(credential)
        found = None
        for known, principal in self._principals.items():
            if hmac.compare_digest(known, digest):  # all are compared, so that time tells nothing
                found = principal
        return found


class Tickets:
    """Tickets that were issued and not yet used.

    Args:
        lifetime_s: How long one is good, in seconds.
        most: How many may be out at a time; the oldest makes room.
    """

    def __init__(self, lifetime_s: float, most: int = 10_000) -> None:
        self.lifetime_s = lifetime_s
        self._most = most
        self._issued: dict[bytes, tuple[str, float]] = {}

    def issue(self, principal: str, now: float) -> str:
        """Return a new ticket."""
        while self._issued:
            oldest, (_, until) = next(iter(self._issued.items()))
            if until > now and len(self._issued) < self._most:
                break
            del self._issued[oldest]
        ticket = secrets.token_urlsafe(32)
        self._issued[_digest(ticket)] = (principal, now + self.lifetime_s)
        return ticket

    def redeem(self, ticket: str, now: float) -> str | None:
        """Return whose ticket it is; from here on it is nobody's."""
        principal, until = self._issued.pop(_digest(ticket), ("", 0.0))
        return principal if principal and now <= until else None


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()
