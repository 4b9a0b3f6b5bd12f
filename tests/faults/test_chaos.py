"""Chaos with real servers, a real Valkey and real clients: nothing is lost, nobody hangs."""

from __future__ import annotations

import pytest

from chaos.command import KINDS, run

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
