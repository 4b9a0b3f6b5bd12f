from __future__ import annotations

import asyncio

import pytest

import wire
from speed import rounds
from speed.alone import EVENTS, alone
from speed.rounds import Figures, Plan
from speed.servers import FLOOR, NAMES, OURS, WATCHED, listening, served
from speed.table import rows, spread, table

PLAN = Plan(rounds=1, seconds=0.3, sessions=(2,), flat_out=(2,))
ALONE = {"a thing": 12.0}


async def test_every_server_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short run has every figure of the table, of the floor and of ours, with and without metrics."""
    monkeypatch.setattr(rounds, "FLAT_OUT_TOKENS", 20_000)
    monkeypatch.setattr(rounds, "TURNS", 20)
    monkeypatch.setattr(rounds, "SETTLE_S", 0.0)
    steps: list[str] = []
    with served(wire.ROOT / "scripts" / "benchmark.py") as servers:
        for server in servers:
            await listening(server.port)
        async with asyncio.timeout(60):
            figures = await rounds.measure(servers, PLAN, steps.append)
    for _, what, _, _ in rows(PLAN):
        for name in NAMES:
            assert len(figures[what, name]) == 1
            if not what.startswith("memory"):  # of two sessions it drowns in what was free before
                assert figures[what, name][0] > 0
    assert {step.rpartition(", ")[2] for step in steps} >= set(NAMES)
    # The next turn does not wait for the cleanup of the old one (contract 5).
    assert figures["again p50 2", OURS][0] < 0.3
    text = table(figures, ALONE, PLAN)
    assert "tokens per CPU second, flat out, 2 sessions" in text
    assert "| a thing | 12 |" in text
    assert "noise: unknown, there was one round" in text


def test_the_table_holds_medians_and_ratios() -> None:
    """A row is the median of the floor, that of ours, one by the other, and how far rounds are apart."""
    plan = Plan(rounds=3, sessions=(1,), flat_out=())
    names = [what for _, what, _, _ in rows(plan)] + ["utilisation 1", "load 1"]
    figures: Figures = {(what, FLOOR): [0.004, 0.002, 0.003] for what in names}
    figures |= {(what, OURS): [0.0015, 0.0015, 0.0018] for what in names}
    figures |= {(what, WATCHED): [0.006] for what in names}
    figures |= {("endless p99", name): [0.009] for name in (OURS, WATCHED)}
    figures |= {("endless p50", name): [0.003] for name in (OURS, WATCHED)}
    lines = table(figures, ALONE, plan).splitlines()
    assert (
        "| interrupt → `turn.ended`, p50 ms, 1 session at 50 tokens/s | 3.00 | 1.50 | 0.50 | 2.00 | 67% |"
        in lines
    )
    assert any("3.00 | 9.00 | 3.00 | 3.00" in line for line in lines)
    assert any("rounds differ by up to 67%" in line for line in lines)


def test_a_load_that_is_the_bottleneck_is_told() -> None:
    """When the load uses its core up, the table says so; otherwise it does not."""
    plan = Plan(rounds=1, sessions=(1,), flat_out=())
    names = [what for _, what, _, _ in rows(plan)] + ["utilisation 1", "endless p50", "endless p99"]
    for load, told in ((0.5, False), (0.95, True)):
        figures: Figures = {(what, name): [1.0] for what in [*names] for name in NAMES}
        figures |= {("load 1", name): [load] for name in NAMES}
        assert ("BOTTLENECK" in table(figures, ALONE, plan)) is told


def test_one_round_says_nothing_about_noise() -> None:
    """The spread is that of the rounds by their median; a single one has none."""
    assert spread([1.0, 2.0, 4.0]) == 1.5
    assert spread([3.0]) == 0.0


def test_codec_and_core_are_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes some nanoseconds an event."""
    monkeypatch.setattr("speed.alone.EVENTS", 50)
    assert EVENTS == 20_000
    figures = alone()
    assert len(figures) == 5
    assert all(ns > 0 for ns in figures.values())
