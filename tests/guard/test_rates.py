"""How much a client may send in a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bargein_server.guard.rates import BURST_S, TokenBucket


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
