"""How much a client may send in a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bargein_server.guard.limits import BURST_S, MAX_ADDRESSES, AddressRates, TokenBucket


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
    assert [rates.take("a", 0, 0.0) for _ in range(3)] == [True, True, False]
    assert [rates.take("b", 100, 0.0) for _ in range(3)] == [True, True, False]
    assert rates.take("a", 0, 1.0)


def test_addresses_that_were_quiet_for_longest_are_forgotten() -> None:
    """So that what is remembered is bounded."""
    rates = AddressRates(1, 100)
    for number in range(MAX_ADDRESSES):
        rates.take(str(number), 0, 0.0)
    rates.take("0", 0, 0.0)
    rates.take("new", 0, 0.0)
    assert len(rates._buckets) == MAX_ADDRESSES
    assert not rates.take("0", 0, 0.0)
    assert rates.take("1", 0, 0.0)
