"""The oracle bites: a guard that is removed from the server or the client is missed within a few seeds."""

from __future__ import annotations

import pytest

from simulation.mutants import MUTANTS, Mutant
from simulation.world import simulate

WITHIN = 1500
"""So many seeds are enough to miss any of them."""


@pytest.mark.nightly
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.guard)
def test_what_is_removed_is_missed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server or a client without one of its guards is found out."""
    mutant.plant(monkeypatch)
    assert any(simulate(str(seed)).fault for seed in range(WITHIN))
