"""Medians of all rounds, their ratios, and how noisy they were."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from statistics import median

from loadgen.report import BUSY

from .rounds import Figures, Plan
from .servers import FLOOR, NAMES, OURS, WATCHED

Row = tuple[str, str, float, int]
"""A title, what was measured, the factor to the unit in the title, and its decimals."""


def rows(plan: Plan) -> list[Row]:
    """Return what the table has."""
    found: list[Row] = []
    for n in plan.sessions:
        at = f"{n} session{'s' if n > 1 else ''} at 50 tokens/s"
        found += [
            (f"interrupt → `turn.ended`, p50 ms, {at}", f"ended p50 {n}", 1e3, 2),
            (f"the same, p99 ms, {at}", f"ended p99 {n}", 1e3, 2),
            (
                f"interrupt → next turn's first token, cleanup takes 300 ms, p50 ms, {at}",
                f"again p50 {n}",
                1e3,
                2,
            ),
            (f"time to first token, p50 ms, {at}", f"first p50 {n}", 1e3, 2),
            (f"processor, seconds per million tokens, {at}", f"cpu per token {n}", 1e6, 1),
        ]
    for n in plan.flat_out:
        found.append(
            (f"tokens per CPU second, flat out, {n} session{'s' if n > 1 else ''}", f"flat out {n}", 1, 0)
        )
    return [
        *found,
        ("processor of a turn of one token, µs", "cpu per turn", 1e6, 0),
        ("memory of an idle session, KiB", "memory idle", 1 / 1024, 1),
        (f"memory of one that streams, after {plan.seconds:g} s, KiB", "memory streaming", 1 / 1024, 1),
    ]


def table(figures: Figures, alone: dict[str, float], plan: Plan) -> str:
    """Return the table in Markdown, with the machine, the versions, and the noise."""
    lines = [
        "| what | floor | bargein | ratio | ratio with metrics | rounds differ |",
        "|---|---|---|---|---|---|",
    ]
    for title, what, factor, decimals in rows(plan):
        floor, ours, watched = (median(figures[what, name]) for name in NAMES)
        ratios = (f"{value / floor:.2f}" if floor > 0 else "" for value in (ours, watched))
        noise = max(spread(figures[what, name]) for name in NAMES)
        cells = (f"{value * factor:,.{decimals}f}" for value in (floor, ours))
        lines.append(f"| {title} | {' | '.join([*cells, *ratios])} | {_noise(noise, plan)} |")
    lines += _flat_out_interrupts(figures, plan)
    lines += ["", "| alone | ns an event |", "|---|---|"]
    lines += [f"| {what} | {ns:,.0f} |" for what, ns in alone.items()]
    versions = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "websockets", "uvloop", "msgspec"))
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.release()}"
    lines += [
        "",
        f"{machine}, Python {platform.python_version()}, {versions}; medians of {plan.rounds} rounds",
        *_busy(figures, plan),
    ]
    return "\n".join(lines)


def _flat_out_interrupts(figures: Figures, plan: Plan) -> list[str]:
    floor = median(figures[f"ended p50 {min(plan.sessions)}", FLOOR])
    lines = []
    for quantile in ("p50", "p99"):
        what = f"endless {quantile}"
        ours, watched = (median(figures[what, name]) for name in (OURS, WATCHED))
        noise = _noise(max(spread(figures[what, name]) for name in (OURS, WATCHED)), plan)
        title = f"interrupt → `turn.ended`, {quantile} ms, the agent never suspends; floor: p50 of what waits"
        ratios = f"{ours / floor:.2f} | {watched / floor:.2f}"
        lines.append(f"| {title} | {floor * 1e3:.2f} | {ours * 1e3:.2f} | {ratios} | {noise} |")
    return lines


def spread(values: list[float]) -> float:
    """Return how far rounds are apart, as a share of their median; what changes by less is noise."""
    middle = median(values)
    return (max(values) - min(values)) / middle if middle > 0 else 0.0


def _noise(share: float, plan: Plan) -> str:
    return f"{share:.0%}" if plan.rounds > 1 else "?"


def _busy(figures: Figures, plan: Plan) -> list[str]:
    """Return how busy servers, load and machine were, and whether that spoils the figures."""
    most = max(plan.sessions)
    floor, ours = (median(figures[f"utilisation {most}", name]) for name in (FLOOR, OURS))
    load = max(median(figures[f"load {most}", name]) for name in NAMES)
    noise = max(spread(figures[f"ended p50 {n}", name]) for n in plan.sessions for name in NAMES)
    waiting = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    lines = [
        f"{most} sessions: {floor:.0%} of the floor's core, {ours:.0%} of ours, {load:.0%} of the load's",
        f"noise: rounds differ by up to {noise:.0%} in an interrupt's median; load average {waiting:.1f}"
        if plan.rounds > 1
        else "noise: unknown, there was one round",
    ]
    if load > BUSY:
        lines.append("THE LOAD WAS THE BOTTLENECK: the servers may be faster")
    return lines
