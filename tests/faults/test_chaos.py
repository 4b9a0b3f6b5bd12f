"""Chaos with real servers, a real Valkey and real clients: nothing is lost, nobody hangs."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from chaos import deploys, outage
from chaos.command import CUTS, KINDS, run
from processes import environment

TESTS = Path(__file__).parents[1]

NIGHTLY_CUTS = ("cut_from_store", "cut_from_all")

pytestmark = [pytest.mark.needs("valkey"), pytest.mark.same_everywhere, pytest.mark.alone]


async def test_users_lose_nothing_while_everything_is_killed() -> None:
    """One fault after the other, each kind once or more in a longer run (`scripts/chaos`)."""
    report, faults = await run(seed="1", seconds=20, nodes=2, users=6, pause_s=1.5, quiet=True)
    assert not report.wrong, report.wrong
    assert not report.lost
    assert sum(faults.values()) >= 3
    assert report.events > 500
    assert max(report.silences) < 20


@pytest.mark.nightly
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(300)
async def test_users_survive_each_fault_again_and_again(kind: str) -> None:
    """The same with one kind of fault."""
    report, _ = await run(seed=kind, seconds=12, nodes=2, users=6, pause_s=1.0, kinds=[kind], quiet=True)
    assert not report.wrong, report.wrong
    assert not report.lost


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.nightly if kind in NIGHTLY_CUTS else pytest.mark.weekly)
        for kind in CUTS
    ],
)
async def test_users_survive_cuts_between_machines(kind: str) -> None:
    """Each server, and the store, has a network of its own; ways between them are cut and healed."""
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join((env["PYTHONPATH"], str(TESTS / "support")))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chaos", "--mode", "partitions", "--fault", kind, "--seed", kind,
        "--seconds", "20", "--pause-s", "1", "--users", "6", "--nodes", "2",
        env=env, cwd=TESTS, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0, said
    assert re.search(rf"[1-9]\d* {kind}", said), said
    assert int(said.partition("events ")[2].split()[0].replace(",", "")) > 500, said


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_a_rolling_deploy_under_load_loses_nobody() -> None:
    """Every session is resumed without a snapshot, and no turn is lost that could end before the deadline."""
    report, cut, stops = await deploys.run(seed="1", users=30, quiet=True)
    assert not report.wrong, report.wrong
    assert not report.lost
    assert report.resumed >= 30
    assert not report.snapshots
    assert sum(report.ends.values()) > 5 * len(cut)
    assert max(stops) < 10


@pytest.mark.nightly
@pytest.mark.timeout(300)
@pytest.mark.parametrize("away", ["stopped", "killed"])
async def test_a_store_that_is_away_drops_nobody(away: outage.Away) -> None:
    """No turn fails, no connection ends, and interrupts are answered at the same time as before."""
    report, phases = await outage.run(seed="1", away=away, away_s=5, users=10, quiet=True)
    assert not report.wrong, report.wrong
    assert not report.lost
    assert set(report.ends) <= {"completed completed", "interrupted client"}
    before, during = (sorted(phases[name].interrupts) for name in ("before", "away"))
    assert during[len(during) // 2] < 3 * before[len(before) // 2] + 0.05
