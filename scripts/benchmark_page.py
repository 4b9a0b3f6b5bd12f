"""Write the tables and the chart of the benchmark page from its figures.

    .venv/bin/python scripts/benchmark_page.py                 tables in BENCHMARK.md, speed/chart.svg
    .venv/bin/python scripts/benchmark_page.py --check         exit with 1 when one of them is stale
    .venv/bin/python scripts/benchmark_page.py --from FILE     take over a run of benchmark.py --json first
    .venv/bin/python scripts/benchmark_page.py --voice FILE    the same for benchmark.py --voice --json

The figures are kept in `speed/published.json` and `speed/voice.json`. One run supplies all of the first.
"""

from __future__ import annotations

import argparse
import json
import sys
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from generated import between, write
from speed.figures import Figures
from speed.plan import Plan
from speed.processes import FLOOR, LEAST, OURS
from speed.table import Row, compared, rows, value
from talk import table as voice_table

FOLDER = Path(__file__).parent
FIGURES, PAGE, CHART = (
    FOLDER / "speed" / "published.json",
    FOLDER / "BENCHMARK.md",
    FOLDER / "speed" / "chart.svg",
)
VOICE = FOLDER / "speed" / "voice.json"
BEGIN, END = "<!-- table: benchmark_page.py -->\n", "<!-- end of table -->\n"
VOICE_BEGIN, VOICE_END = "<!-- voice: benchmark_page.py -->\n", "<!-- end of voice -->\n"

WIDTH, LEFT, RIGHT, TOP, STEP, SCALE_MAX = 860, 340, 30, 64, 34, 1.3
BAR, FLOOR_LINE, WHISKER = "#0969da", "#cf222e", "#1f2328"


class Published(NamedTuple):
    """A row of the published table.

    Args:
        title: Text of the first column, with the unit.
        decimals: Digits of the figures after the point.
        aim: Bound of the ratio; of the figure itself when `absolute`.
        at_least: Whether the aim is a lower bound.
        absolute: Whether the aim bounds the figure and not the ratio.
        chart: Label in the chart; empty for rows that are not drawn.
    """

    title: str
    decimals: int
    aim: float
    at_least: bool = False
    absolute: bool = False
    chart: str = ""


FIRST_AGAIN = "interrupt → first token of the next turn, cleanup takes 300 ms, 500 sessions, p50, ms"
MEMORY_AFTER = "memory after a turn of 500 tokens of 60 bytes, with log and history, KiB"
ROWS = {
    "ended 100 p50": Published(
        "interrupt → `turn.ended`, 100 sessions at 50 tokens/s, p50, ms", 2, 1.0,
        chart="interrupt → turn.ended, 100 sessions, p50",
    ),
    "ended 500 p50": Published(
        "interrupt → `turn.ended`, 500 sessions, p50, ms", 2, 0.9,
        chart="interrupt → turn.ended, 500 sessions, p50",
    ),
    "ended 500 p99": Published(
        "interrupt → `turn.ended`, 500 sessions, p99, ms", 2, 1.0,
        chart="interrupt → turn.ended, 500 sessions, p99",
    ),
    "again 500 p50": Published(
        FIRST_AGAIN, 2, 0.9, chart="interrupt → next turn's first token, slow cleanup"
    ),
    "endless 1 p50": Published("interrupt → `turn.ended`, the agent never suspends, p50, ms", 2, 2.0),
    "first 500 p50": Published(
        "time to first token, 500 sessions, p50, ms", 2, 0.75, chart="time to first token, 500 sessions, p50"
    ),
    "flat out 1": Published("tokens per CPU second, flat out, 1 session", 0, 2.0, at_least=True),
    "flat out 200": Published("tokens per CPU second, flat out, 200 sessions", 0, 2.0, at_least=True),
    "cpu per token 500": Published(
        "CPU seconds per million tokens, 500 sessions at 50 tokens/s", 1, 1.0,
        chart="CPU time per token, 500 sessions",
    ),
    "capacity": Published("sessions at 50 tokens/s on one core, p99 gap ≤ 50 ms", 0, 1.05, at_least=True),
    "memory idle": Published(
        "memory of an attached idle session, KiB", 1, 0.9, chart="memory of an idle session"
    ),
    "memory turn": Published(MEMORY_AFTER, 1, 60.0, absolute=True),
}  # fmt: skip


def main() -> int:
    """Write or check the table and the chart; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 when a file is stale")
    parser.add_argument(
        "--from", dest="source", type=Path, metavar="FILE", help="a run of benchmark.py --json"
    )
    parser.add_argument(
        "--voice",
        type=Path,
        metavar="FILE",
        help="a run of benchmark.py --voice --json, or of parts",
    )
    options = parser.parse_args()
    if options.voice is not None:
        found = voice_table.figures_of(json.loads(options.voice.read_text("utf-8")))
        VOICE.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    if options.source is not None:
        FIGURES.write_text(taken_over(json.loads(options.source.read_text("utf-8"))), "utf-8")
    figures = json.loads(FIGURES.read_text("utf-8"))
    page = between(PAGE.read_text("utf-8"), BEGIN, END, table(figures))
    spoken = "\n".join(voice_table.table(json.loads(VOICE.read_text("utf-8")))) + "\n"
    page = between(page, VOICE_BEGIN, VOICE_END, spoken)
    return write({PAGE: page, CHART: chart(figures)}, "benchmark_page.py", check=options.check)


def taken_over(run: dict[str, Any]) -> str:
    """Return the text of the file of figures for a whole run of the benchmark."""
    figures, plan = restored(run), Plan(**run["plan"])
    found = {
        key: figure
        for row in rows(plan)
        if (key := key_of(row)) in ROWS
        for figure in [measured(figures, row)]
    }
    missing = ROWS.keys() - found.keys()
    if missing:
        sys.exit(f"the run has no figures for {', '.join(sorted(missing))}: run the whole benchmark")
    machine, _, software = run["machine"].partition(", Python ")
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(found[key])}" for key in ROWS)
    head = {"machine": machine, "software": f"Python {software}", "rounds": plan.rounds, "looks": plan.looks}
    fields = "".join(f" {json.dumps(name)}: {json.dumps(value)},\n" for name, value in head.items())
    return f'{{\n{fields} "rows": {{\n{lines}\n }}\n}}\n'


def restored(run: dict[str, Any]) -> Figures:
    """Return the figures of a run from its JSON."""
    figures = Figures()
    for what, servers in run["values"].items():
        for name, values in servers.items():
            figures.values[what, name] = values
    for what, servers in run["times_ms"].items():
        for name, rounds in servers.items():
            figures.times[what, name] = [[ms / 1e3 for ms in times] for times in rounds]
    return figures


def key_of(row: Row) -> str:
    """Return the name of a row in the file of figures."""
    return row.what if row.share is None else f"{row.what} p{row.share * 100:g}"


def measured(figures: Figures, row: Row) -> dict[str, Any]:
    """Return the figures of one row."""
    ratio, least = compared(figures, row, OURS), None
    if (row.what, LEAST) in figures.times or (row.what, LEAST) in figures.values:
        least = compared(figures, row, LEAST)
    assert ratio is not None, row.title
    found: dict[str, float | None] = {
        "floor": value(figures, row, FLOOR),
        "bargein": value(figures, row, OURS),
    }
    found |= {"ratio": ratio.value, "low": ratio.low, "high": ratio.high}
    found["least"] = least.value if least else None
    return {name: round(number, 3) if number is not None else None for name, number in found.items()}


def table(figures: dict[str, Any]) -> str:
    """Return the table in Markdown."""
    lines = ["| figure | floor | bargein | ratio (95 % CI) | aim | least |", "|---|---|---|---|---|---|"]
    for key, row in ROWS.items():
        found = figures["rows"][key]
        floor, ours = (f"{found[name]:,.{row.decimals}f}" for name in ("floor", "bargein"))
        interval = "" if found["low"] is None else f" ({found['low']:.2f} to {found['high']:.2f})"
        ratio, sign = f"{found['ratio']:.2f}", "≥" if row.at_least else "≤"
        reached = found["bargein" if row.absolute else "ratio"]
        if reached >= row.aim if row.at_least else reached <= row.aim:
            ratio, ours = (ratio, f"**{ours}**") if row.absolute else (f"**{ratio}**", ours)
        aim = f"{sign} {row.aim:g}{' KiB' if row.absolute else ''}"
        least = "" if found["least"] is None else f"{found['least']:.2f}"
        lines.append(f"| {row.title} | {floor} | {ours} | {ratio}{interval} | {aim} | {least} |")
    machine = f"Machine: {figures['machine']}. Software: {figures['software']}."
    size = f"{figures['rounds']} rounds, {figures['looks']} steps of the search for sessions on one core."
    return "\n".join([*lines, "", f"{machine} {size}"]) + "\n"


def chart(figures: dict[str, Any]) -> str:
    """Return the chart: a bar for each ratio, its interval, and the floor."""
    drawn = [(row.chart, figures["rows"][key]) for key, row in ROWS.items() if row.chart]
    bottom = TOP + STEP * len(drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 40}" role="img" '
        'font-family="sans-serif" font-size="13" aria-label="Ratios to a bare uvicorn application">'
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="20" y="26" font-size="16" font-weight="bold" fill="{WHISKER}">'
        "Ratio to a bare uvicorn application in the same run; shorter is better</text>",
        '<text x="20" y="46" fill="#57606a">line: 95 % confidence interval · '
        f"{escape(figures['machine'])}</text>",
    ]
    for index, (label, found) in enumerate(drawn):
        parts += bar(label, found, TOP + STEP * index)
    x = _x(1.0)
    parts.append(f'<path d="M{x:.1f} {TOP - 6}V{bottom + 4}" stroke="{FLOOR_LINE}" stroke-dasharray="4 3"/>')
    parts.append(
        f'<text x="{x:.1f}" y="{bottom + 22}" text-anchor="middle" fill="{FLOOR_LINE}">floor = 1</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def bar(label: str, found: dict[str, Any], y: int) -> list[str]:
    """Return the label, the bar and the interval of one ratio."""
    middle, end = y + STEP / 2, _x(found["ratio"])
    parts = [
        f'<text x="{LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end" fill="{WHISKER}">'
        f"{escape(label)}</text>",
        f'<rect x="{LEFT}" y="{y + 7}" width="{end - LEFT:.1f}" height="{STEP - 14}" rx="3" fill="{BAR}"/>',
        f'<text x="{LEFT + 8}" y="{middle + 4:.1f}" fill="white">{found["ratio"]:.2f}</text>',
    ]
    if found["low"] is not None:
        low, high = _x(found["low"]), _x(found["high"])
        line = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"
        parts.append(f'<path d="{line}" fill="none" stroke="{WHISKER}" stroke-width="1.5"/>')
    return parts


def _x(ratio: float) -> float:
    return LEFT + min(ratio, SCALE_MAX) / SCALE_MAX * (WIDTH - LEFT - RIGHT)


if __name__ == "__main__":
    sys.exit(main())
