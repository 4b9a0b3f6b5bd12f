"""Authentication of clients: bearer tokens and tickets.

A *bearer token* is sent in the `Authorization` header, or in the first frame by clients that cannot set
headers. A *ticket* is for browsers, which cannot: their backend, or the page with a token of its own,
requests one over HTTP. It is valid once and for half a minute, as an item of the subprotocol list or in
the first frame. Neither is part of a URL, because proxies log URLs.

Any object with `principal_of` is an authenticator.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from ..settings import share_of

TICKET_ITEM = "bargein.ticket."
"""Prefix of a ticket in the list of subprotocols; the item is never selected."""


class Authenticator(Protocol):
    """Maps credentials to principals."""

    def principal_of(self, credential: str) -> str | None:
        """Return the principal of a credential, None for an unknown one.

        The method must not block: it is called in the event loop.
        """
        ...


class BadTokens(ValueError):
    """Tokens cannot be used; the message has the cause and the remedy."""


class BearerTokens:
    """Authenticator with a fixed set of tokens.

    Args:
        tokens: The principal of each token. Space around a token is ignored.

    Raises:
        ValueError: A token or a principal is empty.
    """

    def __init__(self, tokens: Mapping[str, str]) -> None:
        if not all(token.strip() and principal for token, principal in tokens.items()):
            raise BadTokens("a token or a principal is empty; give each principal a secret text")
        self._principals = {_digest(token.strip()): principal for token, principal in tokens.items()}

    def principal_of(self, credential: str) -> str | None:
        """Return the principal of a token, None for an unknown one."""
        digest = _digest(credential)
        found = None
        for known, principal in self._principals.items():
            if hmac.compare_digest(known, digest):  # all are compared: the time must not depend on the token
                found = principal
        return found


def tokens_of_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the token in `BARGEIN_TOKEN`, if any, with its principal.

    Raises:
        BadTokens: The variable is set and empty: no token would let every client in.
    """
    token = environment.get("BARGEIN_TOKEN")
    if token is None:
        return {}
    if not token.strip():
        raise BadTokens("BARGEIN_TOKEN is empty: set it to a secret, or unset it to let every client in")
    return {token.strip(): "client"}


def tokens_of_file(path: str) -> dict[str, str]:
    """Return the principal of each token in a file of lines `principal token`.

    Empty lines and lines that begin with `#` are ignored.

    Raises:
        BadTokens: The file cannot be read, a line is wrong, or there is no token.
    """
    try:
        lines = Path(path).read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise BadTokens(f"cannot read {path}: {error}") from None
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise BadTokens(f"{path}, line {number}: expected a principal and a token")
        if words[1] in tokens:
            raise BadTokens(f"{path}, line {number}: the token of another line; give each its own")
        tokens[words[1]] = words[0]
    if not tokens:
        raise BadTokens(f"{path} has no tokens: add lines of `principal token`, or leave --tokens out")
    return tokens


class Tickets:
    """Tickets that were issued and not yet used.

    Args:
        lifetime_s: Seconds for which a ticket is valid.
        most: Maximum number of unused tickets; a further one replaces the oldest.
        share: Part of them that one principal may have; a further one replaces its own oldest.
    """

    def __init__(self, lifetime_s: float, most: int = 10_000, share: float = 1.0) -> None:
        self.lifetime_s = lifetime_s
        self._most = most
        self._of_one = share_of(most, share)
        self._issued: dict[bytes, tuple[str, float]] = {}
        self._by_principal: dict[str, dict[bytes, None]] = {}

    def issue(self, principal: str, now: float) -> str:
        """Return a new ticket."""
        while self._issued:
            oldest, (_, until) = next(iter(self._issued.items()))
            if until > now and len(self._issued) < self._most:
                break
            self._drop(oldest)
        own = self._by_principal.get(principal, {})
        if len(own) >= self._of_one:
            self._drop(next(iter(own)))
        ticket = secrets.token_urlsafe(32)
        digest = _digest(ticket)
        self._issued[digest] = (principal, now + self.lifetime_s)
        self._by_principal.setdefault(principal, {})[digest] = None
        return ticket

    def redeem(self, ticket: str, now: float) -> str | None:
        """Return the principal of a ticket, which is then used; None if unknown."""
        digest = _digest(ticket)
        if digest not in self._issued:
            return None
        principal, until = self._drop(digest)
        return principal if now <= until else None

    def _drop(self, digest: bytes) -> tuple[str, float]:
        principal, until = self._issued.pop(digest)
        own = self._by_principal[principal]
        del own[digest]
        if not own:
            del self._by_principal[principal]
        return principal, until


def _digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "replace")).digest()
