"""The garbage collector stops everything, so it runs only as often as it finds something."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import ClassVar

import pytest

from bargein_server.serving.gc_tuning import LEAST_YOUNG, MOST_YOUNG, tune_gc


class Cycle:
    """What only the collector frees."""

    alive: ClassVar[int] = 0

    def __init__(self) -> None:
        Cycle.alive += 1
        self.itself = self

    def __del__(self) -> None:
        Cycle.alive -= 1


@pytest.fixture
def calm() -> Iterator[None]:
    """A process that is calm during the test."""
    thresholds, callbacks = gc.get_threshold(), gc.callbacks[:]
    tune_gc()
    yield
    gc.callbacks[:] = callbacks
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.collect()


@pytest.fixture
def by_hand(calm: None) -> Iterator[None]:
    """A calm process in which nothing is walked through but by the test."""
    gc.disable()
    yield
    gc.enable()


def rarity() -> int:
    """How many objects lead to the next walk."""
    return gc.get_threshold()[0]


def make_cycles(count: int) -> None:
    """Do what a careless agent does."""
    for _ in range(count):
        Cycle()


@pytest.mark.usefixtures("by_hand")
def test_walks_are_rare_at_first() -> None:
    """Turns of hundreds of sessions are no garbage, and to find that out takes milliseconds."""
    assert rarity() == MOST_YOUNG
    gc.collect(0)
    assert rarity() == MOST_YOUNG


@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.usefixtures("by_hand")
def test_a_walk_that_finds_something_brings_the_next_one_nearer(generation: int) -> None:
    """An agent that makes cycles has them collected while they are few, in pauses that are short."""
    make_cycles(MOST_YOUNG)
    gc.collect(generation)
    assert rarity() == LEAST_YOUNG


@pytest.mark.parametrize("generation", [0, 1])
@pytest.mark.usefixtures("by_hand")
def test_walks_in_vain_get_rarer(generation: int) -> None:
    """What was found may have been the last."""
    make_cycles(MOST_YOUNG)
    gc.collect(0)
    gc.collect(generation)
    assert rarity() == 2 * LEAST_YOUNG
    make_cycles(LEAST_YOUNG // 4)  # an eighth of what led to it
    gc.collect(generation)
    assert rarity() == 4 * LEAST_YOUNG


@pytest.mark.usefixtures("by_hand")
def test_a_walk_through_everything_says_nothing() -> None:
    """It is rare, or somebody called it; how much was young it does not tell."""
    make_cycles(MOST_YOUNG)
    gc.collect()
    assert rarity() == MOST_YOUNG


@pytest.mark.usefixtures("calm")
def test_cycles_of_agents_do_not_pile_up() -> None:
    """The first are found late, and the others soon."""
    make_cycles(2 * MOST_YOUNG)
    most = 0
    for _ in range(10 * LEAST_YOUNG):
        Cycle()
        most = max(most, Cycle.alive)
    assert most <= 2 * LEAST_YOUNG


def test_what_exists_already_is_never_looked_at(request: pytest.FixtureRequest) -> None:
    """Modules and settings would be the larger part of a walk through everything."""
    before: list[object] = []
    request.getfixturevalue("by_hand")
    after: list[object] = []
    young = gc.get_objects(0)
    assert any(seen is after for seen in young)
    assert not any(seen is before for seen in gc.get_objects())


@pytest.mark.usefixtures("by_hand")
def test_calm_twice_is_calm_once() -> None:
    """A walk is counted once."""
    tune_gc()
    make_cycles(MOST_YOUNG)
    gc.collect(0)
    gc.collect(0)
    assert rarity() == 2 * LEAST_YOUNG
