"""The published table and chart come from one run of the benchmark."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

import benchmark_page
from documentation import ROOT
from speed.figures import Figures
from speed.plan import Plan
from speed.processes import ALL
from speed.table import rows


def a_run(plan: Plan) -> dict[str, object]:
    """Return the JSON of a run in which each server is twice as fast as the one before."""
    figures = Figures()
    for row in rows(plan):
        for index, name in enumerate(ALL):
            for number in range(plan.rounds):
                if row.share is None:
                    figures.note(row.what, name, (number + 8) / 2**index)
                elif len(figures.times.get((row.what, name), [])) < plan.rounds:
                    figures.keep(row.what, name, [(number + 8) / 2**index])
    return {
        "machine": "a machine, Python 3.11.7, uvicorn 0.54", **figures.raw(),
        "plan": {name: getattr(plan, name) for name in Plan.__struct_fields__},
    }  # fmt: skip


def test_the_published_files_are_current() -> None:
    """The page's table and the chart are those of the published figures."""
    script = ROOT / "scripts" / "benchmark_page.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_is_taken_over() -> None:
    """Every row of the table gets its figures, ratios and intervals from the run."""
    taken = json.loads(benchmark_page.taken_over(a_run(Plan(rounds=3))))
    software = "Python 3.11.7, uvicorn 0.54"
    assert (taken["machine"], taken["software"], taken["rounds"]) == ("a machine", software, 3)
    assert list(taken["rows"]) == list(benchmark_page.ROWS)
    row = taken["rows"]["ended 100 p50"]
    assert (row["ratio"], row["low"], row["high"], row["least"]) == (0.5, 0.5, 0.5, 0.125)
    assert taken["rows"]["capacity"]["least"] in (None, 0.125)


def test_a_quick_run_is_refused() -> None:
    """A run without some of the rows changes nothing."""
    with pytest.raises(SystemExit, match="flat out 1, flat out 200"):
        benchmark_page.taken_over(a_run(Plan(rounds=2, flat_out=(3,))))


def test_a_row_that_misses_its_aim_is_not_bold() -> None:
    """Only figures within their aim are bold, in both directions."""
    taken = json.loads(benchmark_page.taken_over(a_run(Plan(rounds=2))))
    lines = {line.split(" |")[0]: line for line in benchmark_page.table(taken).splitlines()}
    assert "**0.50**" in lines["| time to first token, 500 sessions, p50, ms"]
    assert "**" not in lines["| tokens per CPU second, flat out, 1 session"]


def test_the_chart_is_well_formed() -> None:
    """A bar for each drawn row, and one line for the floor."""
    drawn = benchmark_page.chart(json.loads(benchmark_page.FIGURES.read_text("utf-8")))
    assert drawn.count(benchmark_page.BAR) == sum(bool(row.chart) for row in benchmark_page.ROWS.values())
    assert len(re.findall("floor = 1", drawn)) == 1
