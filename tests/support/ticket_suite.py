"""Test suite of the tickets of a shared store, for every implementation; see `store_suite`."""

from __future__ import annotations

import asyncio
from hashlib import sha256

from bargein_server.stores.shared import SharedStore
from store_suite import MakeStore, opened

ONE, TWO = (sha256(name).digest() for name in (b"one", b"two"))


async def shared(make_store: MakeStore) -> SharedStore:
    """Return an open store."""
    store = await opened(make_store)
    assert isinstance(store, SharedStore)
    return store


async def test_a_ticket_is_taken_once(make_store: MakeStore) -> None:
    """By any server; one that nobody keeps is none."""
    here, there = await shared(make_store), await shared(make_store)
    await here.keep_ticket(ONE, b"\x00 content \xff", 30.0)
    assert await there.take_ticket(TWO) is None
    assert await there.take_ticket(ONE) == b"\x00 content \xff"
    assert await there.take_ticket(ONE) is None
    assert await here.take_ticket(ONE) is None
    await here.close()
    await there.close()


async def test_a_ticket_is_for_one_of_those_who_take_it_at_once(make_store: MakeStore) -> None:
    """Whichever server is the first."""
    stores = [await shared(make_store) for _ in range(8)]
    for number in range(20):
        await stores[number % 8].keep_ticket(ONE, b"content", 30.0)
        taken = await asyncio.gather(*(store.take_ticket(ONE) for store in stores))
        assert [each for each in taken if each is not None] == [b"content"]
    for store in stores:
        await store.close()


async def test_a_ticket_that_made_room_is_forgotten(make_store: MakeStore) -> None:
    """With the next one, and no other."""
    store = await shared(make_store)
    three = sha256(b"three").digest()
    await store.keep_ticket(ONE, b"1", 30.0)
    await store.keep_ticket(TWO, b"2", 30.0)
    await store.keep_ticket(three, b"3", 30.0, [ONE, sha256(b"unknown").digest()])
    assert [await store.take_ticket(each) for each in (ONE, TWO, three)] == [None, b"2", b"3"]
    await store.close()


TESTS = [value for name, value in list(globals().items()) if name.startswith("test_")]
