"""A server dies at every call of its store, and its client loses nothing that it was told."""

from __future__ import annotations

import pytest

from simulation.crashing import crash, crash_at_every_call


@pytest.mark.parametrize("seed", range(12))
def test_nothing_that_was_told_is_lost(seed: int) -> None:
    """Whenever the store ends the server, before a call takes effect and before it is answered."""
    runs, fault = crash_at_every_call(seed)
    assert fault is None
    assert runs > 10


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(12, 300, 24))
def test_nothing_that_was_told_is_lost_in_many_conversations(first: int) -> None:
    """The same for other scripts."""
    for seed in range(first, first + 24):
        assert crash_at_every_call(seed)[1] is None


def test_a_run_follows_from_its_seed() -> None:
    """The same calls of the store."""
    assert crash(3, 5, after=True) == crash(3, 5, after=True)
