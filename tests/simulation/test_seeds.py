"""Runs of the simulator: nothing that the contract forbids, and the same again from the same seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.world import simulate

SEEDS = 300
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_nothing_that_the_contract_forbids_happens(first: int) -> None:
    """Whatever users, agents, strangers and networks do; `scripts/simulate` runs as many as wanted."""
    for seed in range(first, first + 50):
        result = simulate(str(seed))
        assert result.fault is None, f"scripts/simulate --seed {seed} --trace"


def test_a_seed_decides_everything() -> None:
    """The same seed gives the same trace, and another seed another one."""
    seeds = [str(seed) for seed in range(40)]
    results = [simulate(seed) for seed in seeds]
    assert [simulate(seed).digest for seed in seeds] == [result.digest for result in results]
    told = [result.digest for result in results if result.events]  # the others are the same to everybody
    assert len(set(told)) == len(told) > len(seeds) // 2


def test_a_trace_is_the_same_in_another_process() -> None:
    """Not even the order of sets, which Python draws anew in each process, changes it."""
    code = "from simulation.world import simulate; print(*(simulate(str(n)).digest for n in range(20)))"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4711",
        "PYTHONPATH": os.pathsep.join([*sys.path, str(TESTS)]),
    }
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert other.stdout.decode().split() == [simulate(str(seed)).digest for seed in range(20)]


def test_being_read_changes_nothing() -> None:
    """A trace that is printed is that of the run that failed."""
    lines: list[str] = []
    assert simulate("7", lines.append).digest == simulate("7").digest
    assert lines


def test_runs_meet_what_they_are_for() -> None:
    """A few dozen seeds have snapshots, refusals, deferred interrupts, restarts and more."""
    lines: list[str] = []
    for seed in range(60):
        simulate(str(seed), lines.append)
    whole = "\n".join(lines)
    for sign in (
        '"type":"snapshot"', '"type":"replay.done"', '"outcome":"deferred"', '"outcome":"already_ended"',
        '"reason":"bad_token"', '"reason":"unknown_session"', '"reason":"client_gone"',
        '"reason":"no_output"',
        '"type":"goaway"', '"code":"session_lost"', '"type":"turn.held"', '"type":"input.queued"', "silence",
        '"type":"speech.started"', '"reason":"barge_in"', '"code":"no_speech"', '"type":"transcript.done"',
    ):  # fmt: skip
        assert sign in whole, sign
