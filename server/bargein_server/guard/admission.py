"""Admission of connections and requests: origin, number, credential.

A refusal is an HTTP response before the upgrade; its status shows whether to try again.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from ..settings import Settings
from .authentication import TICKET_ITEM, Authenticator, Tickets
from .limits import AddressRates, ByteBudget, Connections, RareLog
from .origins import allowed_origins, may_connect

log = logging.getLogger("bargein.server")
rare_log = RareLog(log)

RETRY_AFTER_S = 5

FAILURES_PER_S = 10
"""Wrong credentials from one address; then it must wait before it shows another."""

_WRONG = "requests are refused: their token or ticket is wrong, used or too old"

_MAX_LOGGED_ORIGINS = 64
"""Further origins are refused without a log line: their number is the clients' choice."""

TRACE_HEADERS = ("traceparent", "tracestate")
"""Headers of a W3C trace context."""


class Refused(Exception):
    """The handshake or request is refused.

    Attributes:
        status: The HTTP status.
        reason: A short text for people.
        retry_after_s: Seconds until the next attempt; None when an attempt cannot succeed.
    """

    def __init__(self, status: int, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class Caller:
    """The client at the other end of a connection.

    Attributes:
        principal: The client's principal; None before authentication, and on a server without it.
        known: Whether the client may open a session; if not, its first frame must hold a credential.
        address: The key of the client's address (`address_key`).
        trace: The W3C trace context of the request, by header; empty without one.
    """

    def __init__(
        self, principal: str | None, known: bool, prove: Callable[[str], str | None], address: str = ""
    ) -> None:
        self.principal = principal
        self.known = known
        self.address = address
        self.trace: Mapping[str, str] = {}
        self._prove = prove

    @property
    def owner(self) -> str:
        """The client whose share is used: a principal, or else an address.

        It is empty for a client without both.
        """
        if self.principal is not None:
            return f"principal {self.principal}"
        return self.address and f"address {self.address}"

    def authenticate(self, credential: str | None) -> bool:
        """Check the credential of the first frame; return `known`."""
        if not self.known and credential is not None:
            self.principal = self._prove(credential)
            self.known = self.principal is not None
        return self.known


def anonymous() -> Caller:
    """Return the caller of a server without authentication."""
    return Caller(None, True, _no_principal)


def _no_principal(credential: str) -> str | None:
    return None


def trace_of(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers of a W3C trace context; empty without one.

    Args:
        headers: Names in lower case, or without regard to case.
    """
    return {name: headers[name][:512] for name in TRACE_HEADERS if name in headers}


class Admission:
    """Decides which connections and requests are served.

    Args:
        settings: Limits and timeouts.
        authenticator: Identifies clients; None admits every client, without a principal.
        origins: Web origins that may connect, beside the server's own.
        clock: Returns the time in seconds.

    Attributes:
        tickets: The tickets that are valid.
        refusals: Number of refused requests so far, by status.
        connections: Number of open connections.
        rates: Rates of requests, by address.
        bodies: Bytes of the bodies of requests.
    """

    def __init__(
        self,
        settings: Settings,
        authenticator: Authenticator | None,
        origins: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        self._authenticator = authenticator
        self._origins = allowed_origins(origins)
        self._logged_origins: set[str] = set()
        self._clock = clock
        self.tickets = Tickets(settings.ticket_lifetime_s, share=settings.max_client_share)
        self.refusals: Counter[int] = Counter()
        self.connections = Connections(settings.max_connections, settings.max_connections_per_address)
        self.rates = AddressRates(settings.max_requests_per_s, settings.max_bytes_per_s)
        self.bodies = ByteBudget(settings.max_body_bytes, settings.max_client_share)
        self._unproven = ByteBudget(settings.max_body_bytes // 4, settings.max_client_share)
        self._failures = AddressRates(FAILURES_PER_S, sys.maxsize)

    def enter(
        self, headers: Mapping[str, str], scheme: str, subprotocols: Sequence[str], address: str, local: str
    ) -> Caller:
        """Admit a connection until `leave`.

        Args:
            headers: The headers of the handshake, names in lower case.
            scheme: `ws` or `wss`.
            subprotocols: The subprotocols that the client offered.
            address: The key of the client's address.
            local: The server's address.

        Raises:
            Refused: The connection is not admitted.
        """
        origin, host = headers.get("origin"), headers.get("host")
        if self._authenticator is not None:
            # No name that an attacker lets resolve to this machine has a credential, and no page of
            # another origin can send the header of a proxy.
            host, local = headers.get("x-forwarded-host", host or "").partition(",")[0].strip(), ""
        if not may_connect(origin, host, scheme, local, self._origins):
            self._log_refused(origin or "", host or "")
            raise Refused(403, "this origin may not connect; the server's log has the remedy")
        if self.connections.is_full():
            rare_log.warning("connections are refused: raise --max-connections")
            raise Refused(503, "the server is full", RETRY_AFTER_S)
        if self.connections.has_enough(address):
            rare_log.warning("connections of an address are refused: raise --max-connections-per-address")
            raise Refused(429, "too many connections from this address", RETRY_AFTER_S)
        caller = self._caller(headers, subprotocols, address)
        caller.trace = trace_of(headers)
        self.connections.enter(address)
        return caller

    def leave(self, address: str) -> None:
        """Remove a connection of this address from the count."""
        self.connections.leave(address)

    @contextmanager
    def admit(
        self, headers: Mapping[str, str], scheme: str, subprotocols: Sequence[str], address: str, local: str
    ) -> Iterator[Caller]:
        """Admit a connection for the duration of the block; see `enter`."""
        caller = self.enter(headers, scheme, subprotocols, address, local)
        try:
            yield caller
        finally:
            self.leave(address)

    def budgets(self, caller: Caller) -> list[ByteBudget]:
        """Return the budgets for the body of a caller's request."""
        return [self.bodies] if caller.known else [self._unproven, self.bodies]

    def bearer(self, headers: Mapping[str, str], address: str) -> str | None:
        """Return the principal of the bearer token in the headers (RFC 6750).

        Args:
            headers: The headers of the request.
            address: The key of the client's address.

        Returns:
            None when there is no token, or no authenticator.

        Raises:
            Refused: The token is unknown.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if self._authenticator is None or not token:
            return None
        self._check_failures(address)
        principal = self._principal_of(token.strip(), address) if scheme.lower() == "bearer" else None
        if principal is None:
            raise Refused(401, "the token is wrong")
        return principal

    def authenticate(self, headers: Mapping[str, str], address: str) -> None:
        """Check the bearer token of a single request.

        Raises:
            Refused: A bearer token is needed, and it is missing or unknown.
        """
        if self._authenticator is not None and self.bearer(headers, address) is None:
            raise Refused(401, "a bearer token is needed")

    def check_host(self, headers: Mapping[str, str], scheme: str, local: str) -> None:
        """Refuse a page that reached the server by its own name (DNS rebinding).

        The requests of such a page to its own origin have no `Origin`. It has no credential either, so an
        authenticator makes this check unnecessary.

        Raises:
            Refused: The `Host` header does not name the server.
        """
        host = headers.get("host")
        origin = headers.get("origin", f"{scheme}://{host}")
        if self._authenticator is None and not may_connect(origin, host, scheme, local, self._origins):
            rare_log.warning(
                "a request is refused because its Host is no name of this machine; "
                "give the name with --origin http://NAME, or ask for tokens"
            )
            raise Refused(403, "this host name is not the server's")

    def _log_refused(self, origin: str, host: str) -> None:
        origin = origin[:256]
        if origin not in self._logged_origins and len(self._logged_origins) < _MAX_LOGGED_ORIGINS:
            self._logged_origins.add(origin)
            log.warning(
                "pages of %r may not connect, because the server was reached as %r; "
                "to allow it: --origin %r or origins=[%r]; a proxy in between must pass the Host header on",
                origin, host[:256], origin, origin,
            )  # fmt: skip

    def _caller(self, headers: Mapping[str, str], subprotocols: Sequence[str], address: str) -> Caller:
        if self._authenticator is None:
            return Caller(None, True, _no_principal, address)
        principal = self.bearer(headers, address)
        if principal is None:
            offered = [
                item.removeprefix(TICKET_ITEM) for item in subprotocols if item.startswith(TICKET_ITEM)
            ]
            if offered:
                self._check_failures(address)
                principal = self.tickets.redeem(offered[0], self._clock())
                if principal is None:
                    rare_log.warning(_WRONG)
                    self._failures.take(address, self._clock())
                    raise Refused(401, "the ticket is wrong, used or too old")
        return Caller(principal, principal is not None, partial(self._prove, address), address)

    def _prove(self, address: str, credential: str) -> str | None:
        if not self._failures.allows(address, self._clock()):
            return None
        ticket_of = self.tickets.redeem(credential, self._clock())
        return ticket_of if ticket_of is not None else self._principal_of(credential, address)

    def _check_failures(self, address: str) -> None:
        if not self._failures.allows(address, self._clock()):
            raise Refused(429, "too many wrong credentials from this address", RETRY_AFTER_S)

    def _principal_of(self, credential: str, address: str) -> str | None:
        """Return a credential's principal; a failing authenticator refuses it."""
        assert self._authenticator is not None
        principal: object = None
        try:
            principal = self._authenticator.principal_of(credential)
            if principal is None:
                rare_log.warning(_WRONG)
        except (Exception, SystemExit) as error:
            # The boundary to the author's code. Libraries raise for an expired token, for example. The
            # message of the error may quote the credential.
            rare_log.warning(
                "a credential is refused because the authenticator raised %s; "
                "return None from principal_of() for a credential that is not valid",
                type(error).__name__,
            )
        if principal is not None and not (isinstance(principal, str) and principal):
            rare_log.warning(
                "a credential is refused because the authenticator returned %s; principal_of() must be a "
                "plain function that returns a text or None",
                type(principal).__name__,
            )
            if isinstance(principal, Coroutine):
                principal.close()
            principal = None
        if principal is None:
            self._failures.take(address, self._clock())
        return principal
