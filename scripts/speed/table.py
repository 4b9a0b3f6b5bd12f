"""Table of floor and our server, with ratios and their intervals."""

from __future__ import annotations

from typing import NamedTuple

from .capacity import GAP_S
from .figures import Figures, Ratio
from .memory import STREAM_S, TURN_TOKENS
from .plan import Plan
from .processes import FLOOR, LEAST, OURS, WATCHED

FLOOR_SHARE = 0.5


class Row(NamedTuple):
    """Row of the table.

    Args:
        title: Title with the unit.
        what: Name of the figure.
        factor: Factor to the unit in the title.
        decimals: Number of printed decimals.
        share: Quantile of durations; None for a value.
        floor: Figure whose median stands for the floor, where the floor lacks this one; else empty.
        ratio: Whether the row has a ratio.
    """

    title: str
    what: str
    factor: float = 1.0
    decimals: int = 0
    share: float | None = None
    floor: str = ""
    ratio: bool = True


def rows(plan: Plan) -> list[Row]:
    """Return the rows of the table."""
    found: list[Row] = []
    for n in plan.sessions:
        found += _trickling(n)
    gap = f"p99 gap ≤ {GAP_S * 1e3:g} ms"
    found += [
        Row(f"sessions at 50 tokens/s on one core, {gap}", "capacity"),
        Row("of its core the load used for that, %", "load capacity", 100, ratio=False),
    ]
    found += [Row(f"tokens per CPU second, flat out, {number(n)}", f"flat out {n}") for n in plan.flat_out]
    least = min(plan.sessions)
    for n in plan.endless:
        for label, share in (("p50", 0.5), ("p99", 0.99)):
            title = f"interrupt → `turn.ended`, {label} ms, {number(n)} whose agent never suspends"
            against = f"floor: p50 of {number(least)} at 50 tokens/s"
            found.append(Row(f"{title}; {against}", f"endless {n}", 1e3, 2, share, f"ended {least}"))
    return [
        *found,
        Row("processor of a turn of one token, µs", "cpu per turn", 1e6),
        Row("memory of an idle session, KiB", "memory idle", 1 / 1024, 1),
        Row(
            f"memory of an idle session after a turn of {TURN_TOKENS} tokens, KiB", "memory turn", 1 / 1024, 1
        ),
        Row(f"memory of one that streams for {STREAM_S:g} s, KiB", "memory streaming", 1 / 1024, 1),
    ]


def _trickling(n: int) -> list[Row]:
    at = f"{number(n)} at 50 tokens/s"
    again = "interrupt → next turn's first token, cleanup takes 300 ms, p50 ms"
    return [
        Row(f"interrupt → `turn.ended`, p50 ms, {at}", f"ended {n}", 1e3, 2, 0.5),
        Row(f"the same, p99 ms, {at}", f"ended {n}", 1e3, 2, 0.99),
        Row(f"{again}, {at}", f"again {n}", 1e3, 2, 0.5),
        Row(f"time to first token, p50 ms, {at}", f"first {n}", 1e3, 2, 0.5),
        Row(f"processor, seconds per million tokens, {at}", f"cpu per token {n}", 1e6, 1),
    ]


def _has_least(row: Row) -> bool:
    return not row.floor and row.what.startswith(("ended ", "first ", "cpu per token "))


def number(sessions: int) -> str:
    """Return a number of sessions as text."""
    return f"{sessions} session{'s' if sessions > 1 else ''}"


def value(figures: Figures, row: Row, name: str) -> float:
    """Return the value of a server in a row, in the row's unit."""
    what, share = (row.floor, FLOOR_SHARE) if row.floor and name == FLOOR else (row.what, row.share)
    return figures.get(what, name, share) * row.factor


def compared(figures: Figures, row: Row, name: str) -> Ratio | None:
    """Return the ratio of a server to the floor; None where it has no meaning."""
    if not row.ratio or not value(figures, row, FLOOR) > 0:
        return None
    to_share = FLOOR_SHARE if row.floor else row.share
    return figures.ratio((row.what, name), (row.floor or row.what, FLOOR), row.share, to_share)


def _cell(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    between = "" if ratio.low is None else f" ({ratio.low:.2f} to {ratio.high:.2f})"
    return f"{ratio.value:.2f}{between}"


def table(figures: Figures, alone: dict[str, float], plan: Plan) -> list[str]:
    """Return the lines of the tables in Markdown."""
    lines = [
        "| what | floor | bargein | ratio | ratio with metrics | least possible ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows(plan):
        cells = [f"{value(figures, row, name):,.{row.decimals}f}" for name in (FLOOR, OURS)]
        cells += [_cell(compared(figures, row, name)) for name in (OURS, WATCHED)]
        cells.append(_cell(compared(figures, row, LEAST)) if _has_least(row) else "")
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    lines += ["", "| alone | ns an event |", "|---|---|"]
    return lines + [f"| {what} | {ns:,.0f} |" for what, ns in alone.items()]
