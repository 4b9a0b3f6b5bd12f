"""The client of a connection or a request, and its credentials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from msgspec.structs import replace

from bargein_protocol import Code
from bargein_protocol.errors import FORBIDDEN, OVERLOADED, UNAUTHORIZED

from ..core.principal import Principal
from .refusals import Refused
from .shared_tickets import Redeemed, is_shared

TRACE_HEADERS = ("traceparent", "tracestate")
"""Headers of a W3C trace context."""


class Caller:
    """The client at the other end of a connection.

    Attributes:
        principal: The client's principal; None before authentication, and on a server without it.
        known: Whether the client may open a session; if not, its first frame must hold a credential.
        address: The key of the client's address (`address_key`).
        trace: The W3C trace context of the request, by header; empty without one.
        ticket: Ticket of the handshake that the store has to redeem; empty without one.
        note: Note of the key that was redeemed; None when none was.
    """

    def __init__(
        self,
        principal: Principal | None,
        known: bool,
        prove: Callable[[str], Principal | None],
        address: str = "",
        redeem: Callable[[str], Awaitable[Redeemed]] | None = None,
    ) -> None:
        self.principal = principal
        self.known = known
        self.address = address
        self.trace: Mapping[str, str] = {}
        self.ticket = ""
        self.note: bytes | None = None
        self._prove = prove
        self._redeem = redeem
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
        if not self.known and credential is not None and not self._is_shared(credential):
            self.principal = self._prove(credential)
            self.known = self.principal is not None
        return self.known

    def must_wait(self, credential: str | None) -> bool:
        """Check a credential; return whether it takes an `identify` instead."""
        if credential is None or self.authenticate(credential):
            return False
        return self._identify is not None or self._is_shared(credential)

    async def identify(self, credential: str | None) -> bool:
        """Check the credential of the first frame, and wait; return `known`.

        Cancelling it leaves the client unknown.

        Raises:
            Refused: The client is denied, or the credential cannot be checked now.
        """
        if credential is None or self.authenticate(credential):
            return self.known
        if self._redeem is not None and self._is_shared(credential):
            redeemed = await self._redeem(credential)
            if not self.known:  # by the same ticket, in another request of its connection
                self.principal, self.note = redeemed.principal, redeemed.note
                self.known = self.principal is not None
        elif self._identify is not None:
            self.principal = await self._identify(credential)
            self.known = self.principal is not None
        return self.known

    async def refusal(self, credential: str | None) -> Code | None:
        """Identify by the first frame's credential; return a refusal's code."""
        try:
            return None if await self.identify(credential) else UNAUTHORIZED
        except Refused as refused:
            return replace(FORBIDDEN if refused.status == 403 else OVERLOADED, reason=refused.reason)

    def _is_shared(self, credential: str) -> bool:
        """Return whether a credential is a ticket that the store may have."""
        return self._redeem is not None and is_shared(credential)

    def ask_later(self, identify: Callable[[str], Awaitable[Principal | None]]) -> None:
        """Check a credential of the first frame with an async authenticator."""
        self._identify = identify


def anonymous() -> Caller:
    """Return the caller of a server without authentication."""
    return Caller(None, True, no_principal)


def no_principal(credential: str) -> Principal | None:
    """Return None: no credential is needed."""
    return None


def trace_of(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers of a W3C trace context; empty without one.

    Args:
        headers: Names in lower case, or without regard to case.
    """
    return {name: headers[name][:512] for name in TRACE_HEADERS if name in headers}
