"""Decides about a connection before it is one: origin, number, credential.

What is refused is refused in HTTP, before the upgrade, with a status that says whether to come back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from ..settings import Settings
from .authentication import TICKET_ITEM, Authenticator, Tickets
from .connection_limits import Connections
from .origins import may_connect
from .rates import AddressRates

RETRY_AFTER_S = 5

TRACE_HEADERS = ("traceparent", "tracestate")
"""Those of a W3C trace context."""


class Refused(Exception):
    """The handshake is refused.

    Attributes:
        status: The HTTP status.
        reason: For people.
        retry_after_s: When to come back, in seconds; None when that would not help.
    """

    def __init__(self, status: int, reason: str, retry_after_s: int | None = None) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.retry_after_s = retry_after_s


class Caller:
    """Who is at the other end of a connection.

    Attributes:
        principal: Who it is; None while that is not known, or when nobody asks.
        known: Whether it may open a session; if not, its first frame must tell who it is.
        trace: The W3C trace context of its request, by header; empty without one.
    """

    def __init__(self, principal: str | None, known: bool, prove: Callable[[str], str | None]) -> None:
        self.principal = principal
        self.known = known
        self.trace: Mapping[str, str] = {}
        self._prove = prove

    def introduce(self, credential: str | None) -> bool:
        """Take the credential of the first frame; returns whether it may open a session."""
        if not self.known and credential is not None:
            self.principal = self._prove(credential)
            self.known = self.principal is not None
        return self.known


def anonymous() -> Caller:
    """Return a visitor of a server that does not ask."""
    return Caller(None, True, _nobody)


def _nobody(credential: str) -> str | None:
    return None


def trace_of(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers of a W3C trace context, if there is one.

    Args:
        headers: Names in lower case, or without regard to case.
    """
    return {name: headers[name][:512] for name in TRACE_HEADERS if name in headers}


class Admission:
    """See the module.

    Args:
        settings: The limits.
        authenticator: Knows who clients are; None lets everybody in, as nobody.
        origins: Web origins that may connect beside the server's own.
        clock: The time in seconds.

    Attributes:
        refusals: How many requests were refused so far, by status.
    """

    def __init__(
        self,
        settings: Settings,
        authenticator: Authenticator | None,
        origins: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        self._authenticator = authenticator
        self._origins = frozenset(origins)
        self._clock = clock
        self.tickets = Tickets(settings.ticket_s)
        self.refusals: Counter[int] = Counter()
        self.connections = Connections(settings.connections, settings.connections_per_address)
        self.rates = AddressRates(settings.requests_per_s, settings.bytes_per_s)

    def enter(
        self, headers: Mapping[str, str], scheme: str, subprotocols: Sequence[str], address: str, local: str
    ) -> Caller:
        """Let a connection in until `leave`.

        Args:
            headers: Those of the handshake, names in lower case.
            scheme: `ws` or `wss`.
            subprotocols: What the client offered.
            address: Where it comes from.
            local: The address that it reached.

        Raises:
            Refused: It may not come in.
        """
        if not may_connect(headers.get("origin"), headers.get("host"), scheme, local, self._origins):
            raise Refused(403, "this origin may not connect")
        if self.connections.is_full():
            raise Refused(503, "the server is full", RETRY_AFTER_S)
        if self.connections.has_enough(address):
            raise Refused(429, "too many connections from this address", RETRY_AFTER_S)
        caller = self._visitor(headers, subprotocols)
        caller.trace = trace_of(headers)
        self.connections.enter(address)
        return caller

    def leave(self, address: str) -> None:
        """Count out a connection that came from there."""
        self.connections.leave(address)

    @contextmanager
    def admit(
        self, headers: Mapping[str, str], scheme: str, subprotocols: Sequence[str], address: str, local: str
    ) -> Iterator[Caller]:
        """Let a connection in for as long as the block lasts; see `enter`."""
        caller = self.enter(headers, scheme, subprotocols, address, local)
        try:
            yield caller
        finally:
            self.leave(address)

    def bearer(self, headers: Mapping[str, str]) -> str | None:
        """Return whose token the `Authorization` header holds (RFC 6750), None when there is none.

        Raises:
            Refused: There is one, and it is nobody's.
        """
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if self._authenticator is None or not token:
            return None
        principal = self._authenticator.principal_of(token.strip()) if scheme.lower() == "bearer" else None
        if principal is None:
            raise Refused(401, "the token is wrong")
        return principal

    def authenticate(self, headers: Mapping[str, str]) -> None:
        """Let a single request in, as `admit` does a connection.

        Raises:
            Refused: A bearer token is needed, and there is none or it is nobody's.
        """
        if self._authenticator is not None and self.bearer(headers) is None:
            raise Refused(401, "a bearer token is needed")

    def _visitor(self, headers: Mapping[str, str], subprotocols: Sequence[str]) -> Caller:
        if self._authenticator is None:
            return anonymous()
        principal = self.bearer(headers)
        if principal is None:
            offered = [
                item.removeprefix(TICKET_ITEM) for item in subprotocols if item.startswith(TICKET_ITEM)
            ]
            if offered:
                principal = self.tickets.redeem(offered[0], self._clock())
                if principal is None:
                    raise Refused(401, "the ticket is wrong, used or too old")
        return Caller(principal, principal is not None, self._prove)

    def _prove(self, credential: str) -> str | None:
        assert self._authenticator is not None
        ticket_of = self.tickets.redeem(credential, self._clock())
        return ticket_of if ticket_of is not None else self._authenticator.principal_of(credential)
