"""Admission of connections and requests: origin, number, credential.

A refusal is an HTTP response before the upgrade; its status shows whether to try again.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from msgspec.structs import replace

from bargein_protocol import Code
from bargein_protocol.errors import FORBIDDEN, OVERLOADED, UNAUTHORIZED

from ..core.principal import Principal
from ..settings import Settings
from .authentication import (
    TICKET_ITEM,
    AccessRequest,
    Authenticator,
    Tickets,
    TokenAuthenticator,
    check_authenticator,
)
from .identification import WRONG, Identification, principal_of_token
from .key_notes import KeyNotes
from .limits import AddressRates, ByteBudget, Connections
from .origins import allowed_origins, may_connect
from .refusals import CREDENTIAL_NEEDED
from .refusals import RETRY_AFTER_S as RETRY_AFTER_S
from .refusals import Refused as Refused
from .refusals import rare_log as rare_log

log = logging.getLogger("bargein.server")

FAILURES_PER_S = 10
"""Wrong credentials from one address; then it must wait before it shows another."""

_MAX_LOGGED_ORIGINS = 64
"""Further origins are refused without a log line: their number is the clients' choice."""

TRACE_HEADERS = ("traceparent", "tracestate")
"""Headers of a W3C trace context."""


class Caller:
    """The client at the other end of a connection.

    Attributes:
        principal: The client's principal; None before authentication, and on a server without it.
        known: Whether the client may open a session; if not, its first frame must hold a credential.
        address: The key of the client's address (`address_key`).
        trace: The W3C trace context of the request, by header; empty without one.
    """

    def __init__(
        self,
        principal: Principal | None,
        known: bool,
        prove: Callable[[str], Principal | None],
        address: str = "",
    ) -> None:
        self.principal = principal
        self.known = known
        self.address = address
        self.trace: Mapping[str, str] = {}
        self._prove = prove
        self._identify: Callable[[str], Awaitable[Principal | None]] | None = None

    @property
    def owner(self) -> str:
        """The client whose share is used: a principal, or else an address.

        It is empty for a client without both.
        """
        if self.principal is not None:
            return f"principal {self.principal}"
        return self.address and f"address {self.address}"

    def authenticate(self, credential: str | None) -> bool:
        """Check the credential of the first frame at once; return `known`."""
        if not self.known and credential is not None:
            self.principal = self._prove(credential)
            self.known = self.principal is not None
        return self.known

    def must_wait(self, credential: str | None) -> bool:
        """Check a credential; return whether it takes an `identify` instead."""
        return not self.authenticate(credential) and self._identify is not None and credential is not None

    async def identify(self, credential: str | None) -> bool:
        """Check the credential of the first frame, and wait; return `known`.

        Cancelling it leaves the client unknown.

        Raises:
            Refused: The client is denied, or the credential cannot be checked now.
        """
        if not self.authenticate(credential) and self._identify is not None and credential is not None:
            self.principal = await self._identify(credential)
            self.known = self.principal is not None
        return self.known

    async def refusal(self, credential: str | None) -> Code | None:
        """Identify by the first frame's credential; return a refusal's code."""
        try:
            return None if await self.identify(credential) else UNAUTHORIZED
        except Refused as refused:
            return replace(FORBIDDEN if refused.status == 403 else OVERLOADED, reason=refused.reason)

    def ask_later(self, identify: Callable[[str], Awaitable[Principal | None]]) -> None:
        """Check a credential of the first frame with an async authenticator."""
        self._identify = identify


def anonymous() -> Caller:
    """Return the caller of a server without authentication."""
    return Caller(None, True, _no_principal)


def _no_principal(credential: str) -> Principal | None:
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
        authenticator: Authenticates clients; None admits every client, without a principal.
        origins: Web origins that may connect, beside the server's own.
        clock: Returns the time in seconds.

    Raises:
        BadAuthenticator: `authenticator` can be called in no way.

    Attributes:
        tickets: The tickets that are valid.
        key_notes: What was asked for with keys that were not used yet.
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
        if authenticator is not None:
            check_authenticator(authenticator)
        self._authenticator = authenticator
        self._tokens: TokenAuthenticator | None = None
        self._identification: Identification | None = None
        if isinstance(authenticator, TokenAuthenticator):
            self._tokens = authenticator
        elif authenticator is not None:
            self._identification = Identification(authenticator, settings.authenticator_s)
        self._origins = allowed_origins(origins)
        self._logged_origins: set[str] = set()
        self._clock = clock
        self.key_notes = KeyNotes()
        self.tickets = Tickets(settings.ticket_lifetime_s, share=settings.max_client_share)
        self.refusals: Counter[int] = Counter()
        self.connections = Connections(settings.max_connections, settings.max_connections_per_address)
        self.rates = AddressRates(settings.max_requests_per_s, settings.max_bytes_per_s)
        self.bodies = ByteBudget(settings.max_body_bytes, settings.max_client_share)
        self._unproven = ByteBudget(settings.max_body_bytes // 4, settings.max_client_share)
        self._failures = AddressRates(FAILURES_PER_S, sys.maxsize)

    @property
    def has_authenticator(self) -> bool:
        """Whether clients need a credential."""
        return self._authenticator is not None

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

    @asynccontextmanager
    async def admit(
        self, request: AccessRequest, scheme: str, address: str, local: str
    ) -> AsyncIterator[Caller]:
        """Admit a request while the block runs; see `enter` and `identify`."""
        caller = self.enter(request.headers, scheme, (), address, local)
        try:
            if not self.rates.take(address, self._clock()):
                raise Refused(429, "too many requests", RETRY_AFTER_S)
            await self.identify(caller, request)
            yield caller
        finally:
            self.leave(address)

    def budgets(self, caller: Caller) -> list[ByteBudget]:
        """Return the budgets for the body of a caller's request."""
        return [self.bodies] if caller.known else [self._unproven, self.bodies]

    def bearer(self, headers: Mapping[str, str], address: str) -> Principal | None:
        """Return the principal of the bearer token in the headers (RFC 6750).

        Args:
            headers: The headers of the request.
            address: The key of the client's address.

        Returns:
            None when there is no token, no authenticator, or an async one.

        Raises:
            Refused: The token is unknown.
        """
        token = self._bearer_token(headers)
        if self._tokens is None or token is None:
            return None
        self._check_failures(address)
        principal = self._principal_of(token, address) if token else None
        if principal is None:
            raise Refused(401, "the token is wrong")
        return principal

    def asks(self, caller: Caller) -> bool:
        """Return whether an async authenticator is asked for a caller's principal."""
        return self._identification is not None and not caller.known

    async def identify(self, caller: Caller, request: AccessRequest) -> None:
        """Ask an async authenticator for a caller's principal, if there is one.

        Cancelling it cancels the authenticator, and leaves the caller unknown.

        Raises:
            Refused: The client is denied, its bearer token is wrong, or it cannot be checked now.
        """
        if self._identification is None or caller.known:
            return
        token = self._bearer_token(request.headers)
        caller.principal = await self._ask(replace(request, credential=token or None), caller.address)
        caller.known = caller.principal is not None
        if not caller.known and token is not None:
            raise Refused(401, "the token is wrong")
        caller.ask_later(
            lambda credential: self._ask(replace(request, credential=credential), caller.address)
        )

    async def authenticate(self, request: AccessRequest, address: str) -> Principal | None:
        """Return the principal of a single request; None without an authenticator.

        Raises:
            Refused: A credential is needed, and it is missing or wrong.
        """
        if self._authenticator is None:
            return None
        caller = self._caller(request.headers, (), address)
        await self.identify(caller, request)
        if not caller.known:
            raise Refused(401, CREDENTIAL_NEEDED)
        return caller.principal

    @staticmethod
    def _bearer_token(headers: Mapping[str, str]) -> str | None:
        """Return the bearer token; empty for another scheme, None without one."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if not token:
            return None
        return token.strip() if scheme.lower() == "bearer" else ""

    async def _ask(self, request: AccessRequest, address: str) -> Principal | None:
        assert self._identification is not None
        if request.credential is not None:
            self._check_failures(address)
        principal = await self._identification.principal_of(request)
        if principal is None and request.credential is not None:
            self._failures.take(address, self._clock())
        return principal

    def issue_ticket(self, principal: str) -> str:
        """Return a ticket for a principal that a backend has authenticated.

        Raises:
            ValueError: There is no authenticator.
        """
        if self._authenticator is None:
            raise ValueError(
                "an application without an authenticator admits every client and looks at no ticket; give "
                "create_app(authenticator=…), such as an async function that returns None for tickets alone"
            )
        return self.tickets.issue(principal, self._clock())

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
                    rare_log.warning(WRONG)
                    self._failures.take(address, self._clock())
                    raise Refused(401, "the ticket is wrong, used or too old")
        return Caller(principal, principal is not None, partial(self._prove, address), address)

    def _prove(self, address: str, credential: str) -> Principal | None:
        if not self._failures.allows(address, self._clock()):
            return None
        ticket_of = self.tickets.redeem(credential, self._clock())
        if ticket_of is not None or self._tokens is None:
            return ticket_of
        return self._principal_of(credential, address)

    def _check_failures(self, address: str) -> None:
        if not self._failures.allows(address, self._clock()):
            raise Refused(429, "too many wrong credentials from this address", RETRY_AFTER_S)

    def _principal_of(self, credential: str, address: str) -> Principal | None:
        assert self._tokens is not None
        principal = principal_of_token(self._tokens, credential)
        if principal is None:
            self._failures.take(address, self._clock())
        return principal
