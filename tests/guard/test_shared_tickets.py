"""Tickets in a store that many servers share: bounds, a store that is slow, and the content of a record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from bargein_server import Principal
from bargein_server.guard import shared_tickets
from bargein_server.guard.admission import Caller, Refused
from bargein_server.guard.shared_tickets import Redeemed, SharedTickets, is_shared
from bargein_server.stores.redis_address import RedisAddress
from bargein_server.stores.redis_store import RedisStore
from modelled_store import modelled
from redis_model import RedisModel
from waiting import WAIT_S, until

ANN = Principal("ann", {"plan": "pro"})


class Store:
    """A store on a model that answers, fails, or keeps everybody waiting.

    Attributes:
        model: The model of its server.
        error: What its methods raise; None when it works.
        answers: Cleared while nobody gets an answer.
        asked: Number of calls.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.model = RedisModel(lambda: self.now)
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = 0
        self._store = modelled(RedisStore(RedisAddress((("model", 1),)), 1000.0), self.model)

    async def keep_ticket(
        self, digest: bytes, content: bytes, lifetime_s: float, dropped: Sequence[bytes]
    ) -> None:
        """Keep a ticket."""
        await self._come()
        await self._store.keep_ticket(digest, content, lifetime_s, dropped)

    async def take_ticket(self, digest: bytes) -> bytes | None:
        """Take a ticket."""
        await self._come()
        return await self._store.take_ticket(digest)

    async def _come(self) -> None:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error


def tickets_in(store: Store, share: float = 1.0, wait_s: float = 10.0, up: bool = True) -> SharedTickets:
    """Return the tickets of one server."""
    return SharedTickets(store, 30.0, share, wait_s, lambda: up)


async def issued(tickets: SharedTickets, principal: Principal | None = ANN, **given: Any) -> str:
    """Return a ticket that the store has."""
    ticket = await tickets.issue(principal, given.get("note", b""), given.get("now", 0.0))
    assert ticket is not None
    return ticket


async def test_the_record_has_everything_but_the_ticket() -> None:
    """Principal, claims and note come along; a claim that cannot is left out; keys are hashes."""
    store = Store()
    here, there = tickets_in(store), tickets_in(store)
    principal = Principal("ann", {"plan": "pro", "teams": [1, 2], "database": object()})
    ticket = await issued(here, principal, note=b'{"model":"m"}')
    [key] = store.model.keys()
    secret = ticket.removeprefix("shared.")
    assert secret not in key
    assert secret.encode() not in store.model.call(("GET", key))
    redeemed = await there.redeem(ticket)
    assert redeemed == Redeemed(Principal("ann"), b'{"model":"m"}')
    assert redeemed is not None
    assert redeemed.principal is not None
    assert redeemed.principal.claims == {"plan": "pro", "teams": [1, 2]}
    assert store.model.keys() == []
    assert await here.redeem(ticket) is None


def test_credentials_of_others_are_no_shared_tickets() -> None:
    """Whatever they begin with: they go to the authenticator."""
    ticket = "shared." + "x" * 43
    assert is_shared(ticket)
    assert is_shared("single." + "x" * 43)
    for other in ("", "x" * 50, ticket[:-1], ticket + "x", "shared.team-token", ticket.upper()):
        assert not is_shared(other)


async def test_a_ticket_ends_with_its_lifetime_in_the_store() -> None:
    """By the clock of the store."""
    store = Store()
    tickets = tickets_in(store)
    ticket = await issued(tickets)
    store.now = 30.1
    assert await tickets.redeem(ticket) is None


async def test_a_record_of_another_version_is_no_ticket() -> None:
    """Its client is refused, and asks for another one."""
    store = Store()
    tickets = tickets_in(store)
    ticket = await issued(tickets)
    [key] = store.model.keys()
    store.model.call(("SET", key, b"\xc1", "PX", 1000))
    assert await tickets.redeem(ticket) is None


async def test_the_oldest_ticket_of_a_principal_leaves_the_store() -> None:
    """With the next one: one client alone cannot fill it."""
    store = Store()
    tickets = tickets_in(store, share=2 / 10_000)
    first, second = [await issued(tickets) for _ in range(2)]
    other = await issued(tickets, Principal("bob"))
    await issued(tickets)
    assert len(store.model.keys()) == 3
    assert await tickets.redeem(first) is None
    assert await tickets.redeem(second) == Redeemed(ANN)
    assert await tickets.redeem(other) == Redeemed(Principal("bob"))


async def test_a_ticket_that_made_room_while_the_store_failed_leaves_it_later() -> None:
    """Until then it is valid, as any that the store has."""
    store = Store()
    tickets = tickets_in(store, share=1 / 10_000)
    first = await issued(tickets)
    store.error = OSError("away")
    assert await tickets.issue(ANN, b"", 1.0) is None
    store.error = None
    await issued(tickets, now=2.0)
    assert await tickets.redeem(first) is None
    assert len(store.model.keys()) == 1


async def test_tickets_that_have_expired_are_no_work_for_the_store() -> None:
    """It has forgotten them by itself."""
    store = Store()
    tickets = tickets_in(store)
    for number in range(3):
        await issued(tickets, Principal(f"u{number}"))
    calls: list[Sequence[bytes]] = []
    keep = store.keep_ticket

    async def watched(digest: bytes, content: bytes, lifetime_s: float, dropped: Sequence[bytes]) -> None:
        calls.append(dropped)
        await keep(digest, content, lifetime_s, dropped)

    store.keep_ticket = watched  # type: ignore[method-assign]
    await issued(tickets, now=31.0)
    assert calls == [[]]


async def test_no_client_gets_a_ticket_whose_record_is_in_doubt() -> None:
    """The store is slow: the record may come later, and nobody has the ticket to it."""
    store = Store()
    tickets = tickets_in(store, wait_s=0.01)
    store.answers.clear()
    assert await tickets.issue(ANN, b"", 0.0) is None
    store.answers.set()
    await until(store.model.keys, "the late record")


async def test_a_slow_store_refuses_for_now() -> None:
    """503 makes clients come again, where 401 would end them for good."""
    store = Store()
    tickets = tickets_in(store, wait_s=0.01)
    ticket = await issued(tickets)
    store.answers.clear()
    with pytest.raises(Refused) as refused:
        await tickets.redeem(ticket)
    assert (refused.value.status, refused.value.retry_after_s) == (503, 5)
    store.answers.set()
    await until(lambda: not store.model.keys(), "the late deletion")
    assert await tickets.redeem(ticket) is None  # it may be used, so it is


async def test_a_failing_store_is_no_unknown_ticket() -> None:
    """503 again; and a store that is known to be away is not asked."""
    store = Store()
    tickets = tickets_in(store)
    ticket = await issued(tickets)
    store.error = OSError("away")
    with pytest.raises(Refused) as refused:
        await tickets.redeem(ticket)
    assert refused.value.status == 503
    asked, away = store.asked, tickets_in(store, up=False)
    assert await away.issue(ANN, b"", 0.0) is None
    with pytest.raises(Refused):
        await away.redeem(ticket)
    assert store.asked == asked


async def test_calls_of_a_store_that_hangs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one holds memory until the store's own bound ends it."""
    monkeypatch.setattr(shared_tickets, "MAX_CALLS", 3)
    store = Store()
    tickets = tickets_in(store, wait_s=0.01)
    store.answers.clear()
    for _ in range(5):
        assert await tickets.issue(ANN, b"", 0.0) is None
    assert store.asked == 3
    store.answers.set()
    async with asyncio.timeout(WAIT_S):  # the calls that went on end now
        while await tickets.issue(ANN, b"", 0.0) is None:
            await asyncio.sleep(0)
    assert len(store.model.keys()) == 4


async def test_two_requests_of_a_connection_may_show_one_ticket_at_once() -> None:
    """Its client is known once the store has redeemed it for the first of them."""
    tickets = tickets_in(Store())
    ticket = await issued(tickets)

    async def redeem(shown: str) -> Redeemed:
        return await tickets.redeem(shown) or Redeemed()

    caller = Caller(None, False, lambda credential: None, "", redeem)
    assert caller.must_wait(ticket)
    both = await asyncio.gather(caller.identify(ticket), caller.identify(ticket))
    assert list(both) == [True, True]
    assert (caller.principal, caller.known, caller.note) == ("ann", True, b"")
