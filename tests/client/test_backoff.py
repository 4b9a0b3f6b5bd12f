"""Delays before an attempt to reconnect."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bargein_client.backoff import Backoff


@given(attempt=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_between_nothing_and_its_bound(attempt: int, chance: float) -> None:
    """Full jitter: from 0 to a bound that doubles up to the cap."""
    delay = Backoff().delay(attempt, lambda: chance)
    assert 0 <= delay <= min(30.0, 0.5 * 2.0 ** min(attempt - 1, 64))


def test_bounds_double_up_to_the_cap() -> None:
    """0.5 s at first, 30 s at last, as the protocol demands."""
    bounds = [Backoff().longest(attempt) for attempt in range(1, 9)]
    assert bounds == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
