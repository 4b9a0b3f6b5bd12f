"""Admission of connections and requests: origin, number, credential.

A refusal is an HTTP response before the upgrade; its status shows whether to try again.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

from msgspec.structs import replace

from ..core.principal import Principal, known_as
from ..settings import Settings
from .authentication import (
    TICKET_ITEM,
    AccessRequest,
    Authenticator,
    Tickets,
    TokenAuthenticator,
    check_authenticator,
    new_ticket,
)
from .caller import TRACE_HEADERS as TRACE_HEADERS
from .caller import Caller as Caller
from .caller import anonymous as anonymous
from .caller import no_principal, trace_of
from .identification import WRONG, Identification, principal_of_token
from .key_notes import KeyNotes
from .limits import AddressRates, ByteBudget, Connections
from .origins import PageOrigins
from .refusals import CREDENTIAL_NEEDED
from .refusals import RETRY_AFTER_S as RETRY_AFTER_S
from .refusals import Refused as Refused
from .refusals import rare_log as rare_log
from .shared_tickets import AT_ONE_SERVER, Redeemed, SharedTickets, TicketStore, is_shared

WRONG_TICKET = "the ticket is wrong, used or too old"
"""Reason of a 401."""

FAILURES_PER_S = 10
"""Wrong credentials from one address; then it must wait before it shows another."""


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
        tickets: The tickets that are valid at this machine.
        key_notes: What was asked for with keys that are valid at this machine and were not used yet.
        shared_tickets: Tickets and keys in a store of many servers; None without such a store.
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
        self._settings = settings
        self._tokens: TokenAuthenticator | None = None
        self._identification: Identification | None = None
        if isinstance(authenticator, TokenAuthenticator):
            self._tokens = authenticator
        elif authenticator is not None:
            self._identification = Identification(authenticator, settings.authenticator_s)
        self._origins = PageOrigins(origins)
        self._clock = clock
        self.key_notes = KeyNotes()
        self.shared_tickets: SharedTickets | None = None
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
        if not self._origins.allow(origin, host, scheme, local):
            self._origins.log_refused(origin or "", host or "")
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
        """Return whether a caller's principal takes an `identify`."""
        return not caller.known and (self._identification is not None or bool(caller.ticket))

    async def identify(self, caller: Caller, request: AccessRequest) -> None:
        """Ask the store, or an async authenticator, for a caller's principal.

        Cancelling it cancels the authenticator, and leaves the caller unknown.

        Raises:
            Refused: The client is denied, its credential is wrong, or it cannot be checked now.
        """
        if caller.ticket and not await caller.identify(caller.ticket):
            raise Refused(401, WRONG_TICKET)
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

    def share_tickets(self, store: TicketStore, answers: Callable[[], bool]) -> None:
        """Keep tickets and keys in a store of many servers.

        Args:
            store: The store.
            answers: Returns whether it answers in time at present.
        """
        settings, own = self._settings, self.tickets
        self.shared_tickets = SharedTickets(store, own.lifetime_s, own.share, settings.store_wait_s, answers)

    def issue_ticket(self, principal: str) -> str:
        """Return a ticket for a principal, valid at this machine.

        Raises:
            ValueError: There is no authenticator, or the id is empty.
        """
        self._check_authenticator()
        return self.tickets.issue(principal, self._clock())

    async def issue_shared_ticket(self, principal: str) -> str:
        """Return a ticket for a principal, valid at every server of the store.

        Without a shared store, or while it is away, it is valid at this machine.

        Raises:
            ValueError: There is no authenticator, or the id is empty.
        """
        self._check_authenticator()
        return await self.issue_key(known_as(principal), b"")

    async def issue_key(self, principal: Principal | None, note: bytes) -> str:
        """Return a ticket with a note; see `issue_shared_ticket`.

        Args:
            principal: Its client; None without authentication.
            note: The request that is made with the key; empty without one.
        """
        shared, prefix = self.shared_tickets, ""
        if shared is not None and (principal is not None or note):
            ticket = await shared.issue(principal, note, self._clock())
            if ticket is not None:
                return ticket
            prefix = AT_ONE_SERVER
        if principal is not None:
            ticket = self.tickets.issue(principal, self._clock(), prefix)
        else:
            ticket = new_ticket(prefix)
        if note:
            self.key_notes.put(ticket, note)
        return ticket

    async def note_of(self, caller: Caller, key: str) -> bytes:
        """Return the note to a key and forget it; empty without one.

        Args:
            caller: The client that has shown the key, after `identify`.
            key: The key.

        Raises:
            Refused: There were too many wrong keys, or the store is away.
        """
        if self.shared_tickets is None or not is_shared(key):
            return self.key_notes.take(key) or b""
        if caller.note is None:  # the client was known without its key
            caller.note = (await self._redeem(caller.address, key)).note
        return caller.note

    def _check_authenticator(self) -> None:
        if self._authenticator is None:
            raise ValueError(
                "an application without an authenticator admits every client and looks at no ticket; give "
                "create_app(authenticator=…), such as an async function that returns None for tickets alone"
            )

    def check_host(self, headers: Mapping[str, str], scheme: str, local: str) -> None:
        """Refuse a page that reached the server by its own name (DNS rebinding).

        The requests of such a page to its own origin have no `Origin`. It has no credential either, so an
        authenticator makes this check unnecessary.

        Raises:
            Refused: The `Host` header does not name the server.
        """
        host = headers.get("host")
        origin = headers.get("origin", f"{scheme}://{host}")
        if self._authenticator is None and not self._origins.allow(origin, host, scheme, local):
            rare_log.warning(
                "a request is refused because its Host is no name of this machine; "
                "give the name with --origin http://NAME, or ask for tokens"
            )
            raise Refused(403, "this host name is not the server's")

    def _caller(self, headers: Mapping[str, str], subprotocols: Sequence[str], address: str) -> Caller:
        if self._authenticator is None:
            return Caller(None, True, no_principal, address)
        principal, ticket = self.bearer(headers, address), ""
        if principal is None:
            offered = [
                item.removeprefix(TICKET_ITEM) for item in subprotocols if item.startswith(TICKET_ITEM)
            ]
            if offered:
                self._check_failures(address)
                if self.shared_tickets is not None and is_shared(offered[0]):
                    ticket = offered[0]
                else:
                    principal = self.tickets.redeem(offered[0], self._clock())
                    if principal is None:
                        self._failed(address)
                        raise Refused(401, WRONG_TICKET)
        redeem = None if self.shared_tickets is None else partial(self._redeem, address)
        caller = Caller(principal, principal is not None, partial(self._prove, address), address, redeem)
        caller.ticket = ticket
        return caller

    async def _redeem(self, address: str, ticket: str) -> Redeemed:
        """Redeem a ticket or key of a server with a shared store.

        Raises:
            Refused: The address has shown too many wrong ones, or the ticket cannot be checked here now.
        """
        assert self.shared_tickets is not None
        self._check_failures(address)  # before the store is asked: guesses must not reach it
        if ticket.startswith(AT_ONE_SERVER):
            found = Redeemed(self.tickets.redeem(ticket, self._clock()), self.key_notes.take(ticket) or b"")
            if found.principal is None and not found.note:
                self._failed(address)
                # It may be valid at another server. 401 would end the client for good.
                raise Refused(503, "the ticket is not of this server, or used or too old", RETRY_AFTER_S)
            return found
        redeemed = await self.shared_tickets.redeem(ticket)
        if redeemed is None or (redeemed.principal is None and self._authenticator is not None):
            self._failed(address)
            return Redeemed()
        return redeemed

    def _prove(self, address: str, credential: str) -> Principal | None:
        if not self._failures.allows(address, self._clock()):
            return None
        ticket_of = self.tickets.redeem(credential, self._clock())
        if ticket_of is not None or self._tokens is None:
            return ticket_of
        return self._principal_of(credential, address)

    def _failed(self, address: str) -> None:
        rare_log.warning(WRONG)
        self._failures.take(address, self._clock())

    def _check_failures(self, address: str) -> None:
        if not self._failures.allows(address, self._clock()):
            raise Refused(429, "too many wrong credentials from this address", RETRY_AFTER_S)

    def _principal_of(self, credential: str, address: str) -> Principal | None:
        assert self._tokens is not None
        principal = principal_of_token(self._tokens, credential)
        if principal is None:
            self._failures.take(address, self._clock())
        return principal
