"""How much a client may send in a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bargein_server.guard.limits import (
    BURST_S,
    MAX_ADDRESSES,
    UNKNOWN_ADDRESS,
    AddressRates,
    ByteBudget,
    Connections,
    TokenBucket,
    address_key,
)  # fmt: skip


def test_a_burst_at_the_limit_passes_and_one_more_does_not() -> None:
    """Two seconds' worth at once."""
    bucket = TokenBucket(10, 0.0)
    assert all(bucket.take(1, 0.0) for _ in range(20))
    assert not bucket.take(1, 0.0)


def test_it_fills_with_time_and_not_beyond_the_burst() -> None:
    """A tenth of a second is one of ten a second; an hour is no more than the burst."""
    bucket = TokenBucket(10, 0.0)
    assert bucket.take(20, 0.0)
    assert not bucket.take(1, 0.09)
    assert bucket.take(1, 0.1001)
    assert bucket.take(20, 3600.0)
    assert not bucket.take(1, 3600.0)


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5))), st.floats(1, 100))
def test_no_more_passes_than_the_rate_and_one_burst(steps: list[tuple[float, float]], rate: float) -> None:
    """Over any time: at most rate x time + burst."""
    bucket = TokenBucket(rate, 0.0)
    now = taken = 0.0
    for wait, amount in steps:
        now += wait
        taken += amount if bucket.take(amount, now) else 0
        assert taken <= rate * (now + BURST_S) * (1 + 1e-9)


def test_an_address_has_a_rate_of_its_own() -> None:
    """Of requests and of their bytes; another address is not touched."""
    rates = AddressRates(1, 100)
    assert [rates.take("a", 0.0) for _ in range(3)] == [True, True, False]
    assert [rates.take_bytes("b", 100, 0.0) for _ in range(3)] == [True, True, False]
    assert rates.take("b", 0.0)
    assert rates.take("a", 1.0)


def test_addresses_that_were_quiet_for_longest_are_forgotten() -> None:
    """So that what is remembered is bounded."""
    rates = AddressRates(1, 100)
    for number in range(MAX_ADDRESSES):
        rates.take(str(number), 0.0)
    rates.take("0", 0.0)
    rates.take("new", 0.0)
    assert len(rates._buckets) == MAX_ADDRESSES
    assert not rates.take("0", 0.0)
    assert rates.take("1", 0.0)


def test_bytes_that_a_request_caused_are_a_debt() -> None:
    """They are known when they are made; nothing more passes until they are paid."""
    rates = AddressRates(1, 100)
    rates.spend("a", 300, 0.0)
    assert not rates.take_bytes("a", 1, 0.5)
    assert rates.take_bytes("a", 1, 1.1)


def test_only_addresses_are_keys_of_their_own() -> None:
    """A header may hold any text; an IPv6 client may use any address of its /64 network."""
    assert address_key("192.0.2.1") == "192.0.2.1"
    assert address_key("::ffff:192.0.2.1") == "192.0.2.1"
    assert address_key("2001:db8::1") == address_key("2001:db8::ffff:2") == "2001:db8::/64"
    assert address_key("2001:db8:0:1::1") != address_key("2001:db8::1")
    for text in ("evil", "x" * 60_000, "1" * 60_000, "192.0.2.1:80", "fe80::1%eth0" * 9, "\ud800"):
        assert address_key(text) == UNKNOWN_ADDRESS
    assert address_key(None) == address_key("") == ""


def test_clients_of_a_unix_socket_are_not_one_address() -> None:
    """They have no address, so the limit of one does not apply; that of all does."""
    connections, rates = Connections(5, 2), AddressRates(1, 100)
    for _ in range(5):
        assert not connections.has_enough("")
        connections.enter("")
    assert connections.is_full()
    assert all(rates.take("", 0.0) for _ in range(100))


def test_a_budget_is_shared_by_clients() -> None:
    """One has its share at most, and all together the whole."""
    budget = ByteBudget(100, 0.5)
    assert budget.take("a", 50)
    assert not budget.take("a", 1)
    assert budget.take("b", 50)
    assert not budget.take("c", 1)
    budget.give_back("a", 50)
    assert budget.take("c", 50)
    assert budget.held == 100
    for client in "bc":
        budget.give_back(client, 50)
    assert (budget.held, len(budget._by_client)) == (0, 0)
