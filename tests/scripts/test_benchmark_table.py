from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random

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
    """A row is the median of the floor, that of ours, and the ratios of the rounds, with what is certain."""
    plan = Plan(sessions=(1,), flat_out=(), endless=(1,))
    lines = table(some(plan), ALONE, plan)
    one = "1 session at 50 tokens/s"
    ratios = "0.60 (0.38 to 0.75) | 2.00 (1.50 to 3.00) | 0.33 (0.25 to 0.50)"
    assert f"| interrupt → `turn.ended`, p50 ms, {one} | 3.00 | 1.50 | {ratios} |" in lines
    # Beyond the median, all rounds are one: the worst counts.
    ratios = "0.45 (0.38 to 0.75) | 1.50 (1.50 to 3.00) | 0.25 (0.25 to 0.50)"
    assert f"| the same, p99 ms, {one} | 4.00 | 1.80 | {ratios} |" in lines
    endless = f"1 session whose agent never suspends; floor: p50 of {one}"
    ratios = "0.60 (0.38 to 0.90) | 2.00 (1.50 to 3.00) |"
    assert f"| interrupt → `turn.ended`, p99 ms, {endless} | 3.00 | 1.80 | {ratios}  |" in lines
    assert "| of its core the load used for that, % | 40 | 40 |  |  |  |" in lines
    assert "| a thing | 12 |" in lines
    assert any("rounds differ by up to 67%" in line for line in footer.footer(some(plan), plan, 0.0))


def test_one_round_says_nothing_about_noise() -> None:
    """The spread is that of the rounds by their median; a single one has none."""
    assert spread([1.0, 2.0, 4.0]) == 1.5
    plan = Plan(rounds=1, sessions=(1,), flat_out=(), endless=())
    assert not any("(" in line for line in table(some(plan), {}, plan) if "p50 ms" in line)
    assert "noise: unknown, there was one round" in footer.footer(some(plan), plan, 0.0)


def test_a_ratio_is_one_of_each_round() -> None:
    """A machine that gets slower in the middle changes no ratio, and what is the same is certain."""
    figures = Figures()
    for speed in (1.0, 1.1, 3.0, 3.3):
        figures.note("cpu", FLOOR, 2.0 * speed)
        figures.note("cpu", OURS, 3.0 * speed)
    assert figures.ratio(("cpu", OURS), ("cpu", FLOOR)) == pytest.approx((1.5, 1.5, 1.5))
    figures.note("none", FLOOR, 0.0)
    figures.note("none", OURS, 1.0)
    assert figures.ratio(("none", OURS), ("none", FLOOR)) == (0.0, None, None)


def test_what_is_certain_gets_narrow_with_rounds() -> None:
    """Many rounds say more than few; the interval holds what they were made from."""
    widths = []
    for rounds in (5, 100):
        random, figures = Random(3), Figures()
        for _ in range(rounds):
            figures.note("cpu", FLOOR, random.gauss(10, 1))
            figures.note("cpu", OURS, random.gauss(12, 1))
        found = figures.ratio(("cpu", OURS), ("cpu", FLOOR))
        assert found.low is not None
        assert found.high is not None
        assert found.low < 1.2 < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


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
    assert "minimum number of interrupts per server: 1,000 (1 session)" in below
    assert "load average before the run: 0.4" in below
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
