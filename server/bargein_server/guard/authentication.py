"""Authentication of clients: bearer tokens and tickets.

A *bearer token* is sent in the `Authorization` header, or in the first frame by clients that cannot set
headers. A *ticket* is for browsers, which cannot: their backend, or the page with a token of its own,
requests one over HTTP. It is valid once and for half a minute, as an item of the subprotocol list or in
the first frame. Neither is part of a URL, because proxies log URLs.

An authenticator is an async function of an `AccessRequest`, which may look at the whole request and ask a
database, or an object with `principal_of`, which maps the credential alone.
"""

from __future__ import annotations

import hmac
import inspect
import secrets
from collections.abc import Awaitable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from ..core.principal import Principal, known_as
from ..settings import share_of

TICKET_ITEM = "bargein.ticket."
"""Prefix of a ticket in the list of subprotocols; the item is never selected."""

TICKET_CHARS = 43
"""Characters of a ticket: 32 random bytes in the alphabet of URLs."""


class AccessRequest(Struct, frozen=True, kw_only=True):
    """A handshake or a request whose client is to be authenticated.

    Args:
        path: The path, with the one under which the application is mounted.
        address: The client's address as the server sees it, such as `192.0.2.1`; None on a Unix socket.
        headers: The headers, by name without regard to case.
        cookies: The cookies, by name.
        query_names: Names of the query's parameters. Their values are left out: URLs are logged on their
            way, so nothing in them may be a credential.
        credential: The bearer token of the `Authorization` header, or `auth` of the first frame or of the
            body; None without one.
        context: Values that middleware of an outer application has put into the ASGI scope, such as `session`
            or `user`.
    """

    path: str
    address: str | None = None
    headers: Mapping[str, str] = {}
    cookies: Mapping[str, str] = {}
    query_names: tuple[str, ...] = ()
    credential: str | None = None
    context: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        """Return path and address only: a repr ends up in logs."""
        return f"AccessRequest(path={self.path!r}, address={self.address!r})"


class AccessDenied(Exception):
    """Raised by an authenticator to refuse a client that it recognizes.

    The client gets 403, or the close code 4403, with the reason, and does not try again by itself.

    Args:
        reason: A short public text for the user, such as `the trial has ended`.
        detail: Cause and remedy for the log, in one line, without a credential. It stays in the server.
    """

    def __init__(self, reason: str, *, detail: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@runtime_checkable
class TokenAuthenticator(Protocol):
    """Maps credentials to principals, without waiting or the whole request."""

    def principal_of(self, credential: str) -> str | None:
        """Return the principal of a credential, None for an unknown one.

        The method must not block: it is called in the event loop.
        """
        ...


class RequestAuthenticator(Protocol):
    """An async function, or an object that is called like one."""

    def __call__(self, request: AccessRequest, /) -> Awaitable[str | None]:
        """Return a request's principal or its id; None without a valid credential.

        It is awaited for each WebSocket handshake and each HTTP request, again for a first frame or a body
        with a credential of its own, and so on each resume. It is cancelled after `authenticator_s`, and
        when its client leaves.

        Raises:
            AccessDenied: The client is recognized and may not come in.
        """
        ...


Authenticator = RequestAuthenticator | TokenAuthenticator
"""Authenticates clients: an async function of an `AccessRequest`, or an object such as `BearerTokens`."""


class BadAuthenticator(ValueError):
    """An authenticator cannot be called; the message has the expected forms."""


def check_authenticator(authenticator: Any) -> None:
    """Raise `BadAuthenticator` if an object is certainly none."""
    if isinstance(authenticator, TokenAuthenticator) and not inspect.isclass(authenticator):
        return
    if not callable(authenticator) or inspect.isclass(authenticator):
        given = authenticator.__name__ if inspect.isclass(authenticator) else type(authenticator).__name__
        raise BadAuthenticator(
            "expected an async function of one AccessRequest, or an object with principal_of() such as "
            f"BearerTokens({{token: principal}}); got {given}"
        )
    if inspect.isasyncgenfunction(authenticator) or inspect.isgeneratorfunction(authenticator):
        raise BadAuthenticator("expected an async function, got a generator: write `return` for `yield`")
    if inspect.isfunction(authenticator) and not inspect.iscoroutinefunction(inspect.unwrap(authenticator)):
        raise BadAuthenticator(f"expected an async function: write `async def {authenticator.__name__}`")


class BadTokens(BadAuthenticator):
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
        self._principals = {ticket_digest(token.strip()): principal for token, principal in tokens.items()}

    def principal_of(self, credential: str) -> str | None:
        """Return the principal of a token, None for an unknown one."""
        digest = ticket_digest(credential)
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
        self.share = share
        self._most = most
        self._of_one = share_of(most, share)
        self._issued: dict[bytes, tuple[Principal | None, float]] = {}
        self._by_principal: dict[str | None, dict[bytes, None]] = {}

    def issue(self, principal: str, now: float, prefix: str = "") -> str:
        """Return a new ticket, with a prefix that shows its kind."""
        ticket = new_ticket(prefix)
        self.add(ticket_digest(ticket), known_as(principal), now)
        return ticket

    def add(self, digest: bytes, principal: Principal | None, now: float) -> None:
        """Add a ticket by its hash; old ones make room."""
        while self._issued:
            oldest, (_, until) = next(iter(self._issued.items()))
            if until > now and len(self._issued) < self._most:
                break
            self._drop(oldest)
        own = self._by_principal.get(principal, {})
        if len(own) >= self._of_one:
            self._drop(next(iter(own)))
        self._issued[digest] = (principal, now + self.lifetime_s)
        self._by_principal.setdefault(principal, {})[digest] = None

    def redeem(self, ticket: str, now: float) -> Principal | None:
        """Return the principal of a ticket, which is then used; None if unknown."""
        digest = ticket_digest(ticket)
        if digest not in self._issued:
            return None
        principal, until = self._drop(digest)
        return principal if now <= until else None

    def _drop(self, digest: bytes) -> tuple[Principal | None, float]:
        principal, until = self._issued.pop(digest)
        own = self._by_principal[principal]
        del own[digest]
        if not own:
            del self._by_principal[principal]
        return principal, until


def new_ticket(prefix: str = "") -> str:
    """Return a random ticket of `TICKET_CHARS` behind its prefix."""
    return prefix + secrets.token_urlsafe(32)


def ticket_digest(secret: str) -> bytes:
    """Return the hash under which a secret is kept."""
    return sha256(secret.encode("utf-8", "replace")).digest()
