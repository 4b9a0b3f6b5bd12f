from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import benchmark
from speed import footer
from speed.figures import Figures, quantile, spread
from speed.plan import Plan
from speed.processes import FLOOR, LEAST, NAMES, OURS, WATCHED
from speed.table import rows, table

ALONE = {"a thing": 12.0}


def some(plan: Plan) -> Figures:
    """Return figures of everything: 2, 4 and 3 (ms) of the floor, 1.5 of ours, 6 with metrics, 1 at least."""
    found = Figures()
    for name, values in (
        (FLOOR, (4, 2, 3)),
        (OURS, (1.5, 1.5, 1.8)),
        (WATCHED, (6, 6, 6)),
        (LEAST, (1, 1, 1)),
    ):
        for row in rows(plan):
            for value in values[: plan.rounds]:
                if row.share == 0.5:
                    found.keep(row.what, name, [value / 1e3])
                elif row.share is None:
                    found.note(row.what, name, value)
        for n in plan.sessions:
            found.note(f"utilisation {n}", name, 0.5)
            found.note(f"load {n}", name, 0.4)
    for key in [key for key in found.values if key[0].startswith("load ")]:
        found.values[key] = [0.4]
    return found


def test_the_table_holds_medians_and_ratios() -> None:
    """A row is the median of the floor, that of ours, one by the other, and how far rounds are apart."""
    plan = Plan(sessions=(1,), flat_out=(), endless=(1,))
    lines = table(some(plan), ALONE, plan)
    one = "1 session at 50 tokens/s"
    assert f"| interrupt → `turn.ended`, p50 ms, {one} | 3.00 | 1.50 | 0.50 | 2.00 | 0.33 | 67% |" in lines
    # Beyond the median, all rounds are one: the worst counts.
    assert f"| the same, p99 ms, {one} | 4.00 | 1.80 | 0.45 | 1.50 | 0.25 | 67% |" in lines
    endless = f"1 session whose agent never suspends; floor: p50 of {one}"
    assert f"| interrupt → `turn.ended`, p99 ms, {endless} | 3.00 | 1.80 | 0.60 | 2.00 |  | 20% |" in lines
    assert "| of its core the load used for that, % | 40 | 40 |  |  |  | ? |" in lines
    assert "| a thing | 12 |" in lines
    assert any("rounds differ by up to 67%" in line for line in footer.footer(some(plan), plan, 0.0))


def test_one_round_says_nothing_about_noise() -> None:
    """The spread is that of the rounds by their median; a single one has none."""
    assert spread([1.0, 2.0, 4.0]) == 1.5
    plan = Plan(rounds=1, sessions=(1,), flat_out=(), endless=())
    assert all(line.endswith("| ? |") for line in table(some(plan), {}, plan) if "ms" in line)
    assert "noise: unknown, there was one round" in footer.footer(some(plan), plan, 0.0)


def test_a_tail_is_that_of_all_rounds() -> None:
    """A median is that of the rounds' medians; a 99th percentile that of all durations together."""
    figures = Figures()
    for usual, worst in ((0.1, 1.0), (0.2, 1.0), (0.3, 9.0)):
        figures.keep("ended 1", OURS, [worst, *[usual] * 49])
    assert figures.get("ended 1", OURS, 0.5) == 0.2
    assert figures.rounds("ended 1", OURS, 0.99) == [1.0, 1.0, 9.0]
    assert figures.get("ended 1", OURS, 0.985) == 1.0
    assert figures.get("ended 1", OURS, 0.99) == 1.0
    assert figures.get("ended 1", OURS, 0.995) == 9.0
    assert figures.count("ended 1", OURS) == 150
    assert quantile([1.0, 2.0, 3.0, 4.0], 0.5) == 2.0
    assert quantile([1.0], 0.99) == 1.0


@pytest.mark.parametrize("stretch", ["load 1", "load capacity", "load endless 1"])
def test_a_load_that_is_the_bottleneck_is_told(stretch: str) -> None:
    """When the load uses its core up, in any stretch, the footer says so; otherwise it does not."""
    plan = Plan(sessions=(1,), flat_out=(), endless=(1,))
    figures = some(plan)
    figures.values["load endless 1", OURS] = [0.5]
    assert not any("BOTTLENECK" in line for line in footer.footer(figures, plan, 0.0))
    figures.values[stretch, OURS] = [0.95]
    (told,) = [line for line in footer.footer(figures, plan, 0.0) if "BOTTLENECK" in line]
    assert f"{stretch.removeprefix('load ')}: 95%" in told


def test_few_interrupts_and_a_busy_machine_are_told() -> None:
    """A p99 of fewer than 1000 interrupts is told, and a machine that was not idle before."""
    plan = Plan(sessions=(1,), flat_out=(), endless=())
    figures = some(plan)
    assert any("TOO FEW" in line for line in footer.footer(figures, plan, 0.0))
    for name in NAMES:
        figures.keep("ended 1", name, [0.002] * 997)
    below = footer.footer(figures, plan, 0.4)
    assert "interrupts of each server, at least: 1,000 (1 session)" in below
    assert "load average before it began: 0.4" in below
    assert not any("TOO FEW" in line or "NOT IDLE" in line for line in below)
    assert any("NOT IDLE" in line for line in footer.footer(figures, plan, 0.6))


def test_the_file_holds_every_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The table's rows, each round's numbers and durations, and what it was measured on."""

    async def run(plan: Plan) -> Figures:
        return some(plan)

    monkeypatch.setattr(benchmark, "run", run)
    monkeypatch.setattr(benchmark, "prepare", lambda: None)
    monkeypatch.setattr(benchmark, "alone", lambda: ALONE)
    file = tmp_path / "figures.json"
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "--sessions", "1", "--json", str(file)])
    assert benchmark.main() == 0
    found = json.loads(file.read_text("utf-8"))
    assert found["values"]["cpu per turn"][FLOOR] == [4, 2, 3]
    assert found["times_ms"]["ended 1"][OURS] == [[1.5], [1.5], [1.8]]
    assert found["rows"][0][FLOOR] == 3.0
    assert found["plan"]["sessions"] == [1]
    assert found["machine"] in found["notes"]
    assert found["alone_ns"] == ALONE
