"""Tickets and keys in a store that many servers share.

A ticket is a record under its hash, which expires with it. A server redeems it by reading and deleting the
record, and only the one whose deletion found it has redeemed it. So it is valid once, at any server.

The store may fail in the middle of a call, and whether the call took effect is not certain then. A ticket
whose record is in doubt is given to no client, who gets another one that is never in the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import msgspec
from msgspec import Struct

from ..core.principal import Principal
from .authentication import TICKET_CHARS, Tickets, new_ticket, ticket_digest
from .claims import portable_claims
from .refusals import RETRY_AFTER_S, Refused, rare_log

T = TypeVar("T")

IN_STORE = "shared."
"""Prefix of a ticket that is in the store."""

AT_ONE_SERVER = "single."
"""Prefix of a ticket that was issued while the store was away, and is valid where it was issued."""

MAX_CALLS = 1000
"""Calls of the store that may be under way; further ones count as failed."""


class TicketStore(Protocol):
    """Part of a shared store for tickets; an unusable one raises."""

    async def keep_ticket(
        self, digest: bytes, content: bytes, lifetime_s: float, dropped: Sequence[bytes]
    ) -> None:
        """Keep a new ticket for a time, and forget others."""
        ...

    async def take_ticket(self, digest: bytes) -> bytes | None:
        """Return the content of a ticket to one caller alone, and forget it."""
        ...


class Redeemed(Struct, frozen=True):
    """A ticket or a key that was redeemed.

    Args:
        principal: Its client; None for a key of a server without authentication, or a wrong ticket.
        note: The request that was made with the key; empty without one.
    """

    principal: Principal | None = None
    note: bytes = b""


class _Content(Struct, array_like=True):
    principal: str | None
    claims: dict[str, Any]
    note: bytes


_content = msgspec.msgpack.Decoder(_Content)


class _Issued(Tickets):
    """Tickets that this server has issued, and those that made room."""

    def __init__(self, lifetime_s: float, share: float) -> None:
        super().__init__(lifetime_s, share=share)
        self._dropped: list[tuple[bytes, float]] = []

    def dropped(self, now: float) -> list[bytes]:
        """Return those that made room and are still valid."""
        self._dropped = [each for each in self._dropped if each[1] > now]
        return [digest for digest, _ in self._dropped]

    def forget(self, digests: Sequence[bytes]) -> None:
        """Forget tickets that made room, because the store has forgotten them."""
        gone = set(digests)
        self._dropped = [each for each in self._dropped if each[0] not in gone]

    def _drop(self, digest: bytes) -> tuple[Principal | None, float]:
        principal, until = super()._drop(digest)
        self._dropped.append((digest, until))
        return principal, until


class SharedTickets:
    """Tickets and keys that are valid at every server of a store.

    Args:
        store: The store.
        lifetime_s: Seconds for which a ticket is valid.
        share: Part of the unused tickets that one principal may have.
        wait_s: Seconds that a client waits for the store.
        answers: Returns whether the store answers in time at present.
    """

    def __init__(
        self,
        store: TicketStore,
        lifetime_s: float,
        share: float,
        wait_s: float,
        answers: Callable[[], bool],
    ) -> None:
        self._store = store
        self._lifetime_s = lifetime_s
        self._wait_s = wait_s
        self._answers = answers
        self._issued = _Issued(lifetime_s, share)
        self._calls: set[asyncio.Task[Any]] = set()

    async def issue(self, principal: Principal | None, note: bytes, now: float) -> str | None:
        """Return a ticket that the store has; None when the store is away or slow.

        Args:
            principal: Its client; None for a key of a server without authentication.
            note: The request that is made with a key; empty without one.
            now: The time in seconds.
        """
        if not self._answers():
            return None
        secret = new_ticket(IN_STORE)
        ticket: str | None = secret
        digest = ticket_digest(secret)
        self._issued.add(digest, principal, now)
        dropped = self._issued.dropped(now)
        principal_id = None if principal is None else principal.id
        content = msgspec.msgpack.encode(_Content(principal_id, portable_claims(principal), note))
        try:
            await self._call(self._store.keep_ticket(digest, content, self._lifetime_s, dropped))
        except Exception as error:
            # The boundary to the store, which may be an author's. Whether it has the ticket is not certain,
            # so no client gets it.
            rare_log.warning(
                "tickets are valid at the server that issues them alone, because the store failed with %s",
                type(error).__name__,
            )
            ticket = None
        else:
            self._issued.forget(dropped)
        return ticket

    async def redeem(self, ticket: str) -> Redeemed | None:
        """Return the content of a ticket, which is then used; None if unknown.

        Cancelling it does not undo it.

        Raises:
            Refused: The store is away or slow, with 503. The ticket may be used.
        """
        try:
            if not self._answers():
                raise TimeoutError
            found = await self._call(self._store.take_ticket(ticket_digest(ticket)))
        except Exception as error:
            rare_log.warning(
                "clients with tickets are refused for now, because the store failed with %s",
                type(error).__name__,
            )
            raise Refused(503, "the ticket cannot be checked now", RETRY_AFTER_S) from None
        if found is None:
            return None
        try:
            content = _content.decode(found)
        except msgspec.MsgspecError:  # of another version
            return None
        named = content.principal
        return Redeemed(Principal(named, content.claims) if named else None, content.note)

    async def _call(self, call: Coroutine[Any, Any, T]) -> T:
        """Await a call of the store for a bounded time.

        It is not cancelled, because that costs the store's connection, which others use.

        Raises:
            TimeoutError: It takes longer, and goes on.
        """
        if len(self._calls) >= MAX_CALLS:
            call.close()
            raise TimeoutError
        task = asyncio.get_running_loop().create_task(call, name="ticket in store")
        self._calls.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait([task], timeout=self._wait_s)
        if not task.done():
            raise TimeoutError
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        if not task.cancelled():
            task.exception()  # taken, so that asyncio does not log it


def is_shared(ticket: str) -> bool:
    """Return whether a ticket has the form of a server with a shared store."""
    return ticket.startswith((IN_STORE, AT_ONE_SERVER)) and len(ticket) == len(IN_STORE) + TICKET_CHARS
