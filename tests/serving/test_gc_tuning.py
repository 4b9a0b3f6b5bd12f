"""The garbage collector stops everything, so it runs only as often as it finds something."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from websockets.asyncio.client import connect

from bargein_server.serving.gc_tuning import (
    GROWTH_BYTES,
    LEAST_YOUNG,
    MOST_YOUNG,
    PERIOD_S,
    MemoryWatch,
    resident_bytes,
    tune_gc,
)
from live_server import RawClient
from processes import server

MIB = 2**20


class Cycle:
    """What only the collector frees."""

    alive: ClassVar[int] = 0
    memory: bytearray

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
def test_walks_get_rare_soon() -> None:
    """The first is early; turns of hundreds of sessions are no garbage, which each walk finds out."""
    assert rarity() == LEAST_YOUNG
    for _ in range(4):
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
    before = rarity()
    gc.collect()
    assert rarity() == before


@pytest.mark.usefixtures("calm")
def test_cycles_of_agents_do_not_pile_up() -> None:
    """They are found while they are few."""
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


@pytest.fixture
def kinds() -> Iterator[list[int]]:
    """The generations of all walks."""
    kinds: list[int] = []

    def note(phase: str, walk: dict[str, int]) -> None:
        if phase == "start":
            kinds.append(walk["generation"])

    gc.callbacks.append(note)
    yield kinds
    gc.callbacks.remove(note)


class Process:
    """Memory and time of a process."""

    def __init__(self) -> None:
        self.resident = 100 * MIB
        self.now = 0.0
        self.watch = MemoryWatch(lambda: self.resident, lambda: self.now)

    def tick(self, grown: int = 0, passed_s: float = 0.1) -> None:
        """Check after some growth, in bytes."""
        self.resident += grown
        self.now += passed_s
        self.watch.check()


@pytest.mark.usefixtures("by_hand")
def test_growth_of_memory_starts_a_walk(kinds: list[int]) -> None:
    """Through young objects, where the cycles of agents are; small growth adds up."""
    process = Process()
    process.tick(GROWTH_BYTES)
    assert kinds == []
    process.tick(1)
    assert kinds == [1]
    process.tick(GROWTH_BYTES)
    assert kinds == [1]


@pytest.mark.usefixtures("by_hand")
def test_growth_that_goes_on_starts_a_walk_through_everything(kinds: list[int]) -> None:
    """Cycles that grew old hold it; the more memory there is, the rarer this walk."""
    process = Process()
    for _ in range(3):
        process.tick(GROWTH_BYTES + 1)
    assert kinds == [1, 1, 2, 1]
    kinds.clear()
    process.resident = 4000 * MIB
    process.tick()
    assert kinds == [1, 2]
    kinds.clear()
    for _ in range(20):
        process.tick(GROWTH_BYTES + 1)
    assert kinds == [1] * 20


@pytest.mark.usefixtures("by_hand")
def test_time_starts_a_walk(kinds: list[int]) -> None:
    """A small cycle may hold a socket of a server that has nothing to do."""
    process = Process()
    process.tick(passed_s=PERIOD_S - 1)
    assert kinds == []
    process.tick(passed_s=1)
    assert kinds == [1]
    process.tick(passed_s=PERIOD_S - 1)
    assert kinds == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the peak is known")
@pytest.mark.usefixtures("calm")
def test_large_cycles_do_not_pile_up() -> None:
    """Ten objects that hold a megabyte are no less garbage than a thousand small ones."""
    watch, before, most = MemoryWatch(), resident_bytes(), 0
    for _ in range(400):
        Cycle().memory = bytearray(b"x" * MIB)
        watch.check()
        most = max(most, resident_bytes() - before)
    assert most < 3 * GROWTH_BYTES


AGENT = """
async def agent(turn):
    memory = b"x" * 2**20
    try:
        raise ValueError
    except ValueError as e:
        error = e       # a cycle: the traceback holds this frame, and the frame the error
    yield "word"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_memory_of_an_agents_cycles_is_bounded(tmp_path: Path) -> None:
    """In a server process: 500 turns leave a megabyte each (contract 13)."""
    (tmp_path / "agents.py").write_text(AGENT, "utf-8")
    async with server("agents:agent", tmp_path) as process, connect(process.url, proxy=None) as connection:
        client, before = RawClient(connection), resident_bytes(str(process.process.pid))
        for number in range(500):
            await client.send({"type": "input.text", "id": f"i{number}", "text": "x"})
            await client.until("turn.ended")
        assert resident_bytes(str(process.process.pid)) - before < 250 * MIB  # it looks 10 times a second
