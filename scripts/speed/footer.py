"""Notes below the table: machine, sample sizes and warnings."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median

from loadgen.report import BUSY

from .capacity import APPROACH
from .figures import SURE, Figures, spread
from .plan import Plan
from .processes import FLOOR, NAMES, OURS
from .table import number

IDLE = 0.5
"""A load average beyond this before the start comes from other processes."""


def machine() -> str:
    """Return machine and versions as text."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "websockets", "uvloop", "msgspec"))
    return (
        f"{os.cpu_count()} cores{_model()}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def _model() -> str:
    """Return the name of the processor, where available."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f" ({names[0]})" if names else ""


def load_average() -> float:
    """Return the load average of the last minute; 0 where not available."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def footer(figures: Figures, plan: Plan, waiting: float) -> list[str]:
    """Return the notes as lines.

    Args:
        figures: The results.
        plan: Size of the measurement.
        waiting: The load average before the start.
    """
    most = max(plan.sessions)
    floor, ours = (figures.get(f"utilisation {most}", name) for name in (FLOOR, OURS))
    load = max(figures.get(f"load {most}", name) for name in NAMES)
    return [
        machine(),
        f"medians of {plan.rounds} rounds ({plan.looks - APPROACH} looks at crowds), ratios too; "
        "p99 of all rounds together; memory once; each in new processes",
        f"{SURE:.0%} bootstrap confidence interval in parentheses",
        f"{most} sessions: {floor:.0%} of the floor's core, {ours:.0%} of ours, {load:.0%} of the load's",
        f"interrupts of each server, at least: {_interrupts(figures, plan)}",
        _noise(figures, plan),
        f"load average before it began: {waiting:.1f}",
        *warnings(figures, plan, waiting),
    ]


def _counts(figures: Figures, plan: Plan) -> dict[str, int]:
    """Return the smallest number of durations behind each p99."""
    found = {number(n): min(figures.count(f"ended {n}", name) for name in NAMES) for n in plan.sessions}
    ours = [name for name in NAMES if name != FLOOR]
    for n in plan.endless:
        found[f"{n} flat out"] = min(figures.count(f"endless {n}", name) for name in ours)
    return found


def _interrupts(figures: Figures, plan: Plan) -> str:
    return ", ".join(f"{count:,} ({what})" for what, count in _counts(figures, plan).items())


def _noise(figures: Figures, plan: Plan) -> str:
    if plan.rounds < 2:
        return "noise: unknown, there was one round"
    apart = max(spread(figures.rounds(f"ended {n}", name, 0.5)) for n in plan.sessions for name in NAMES)
    return f"noise: rounds differ by up to {apart:.0%} in an interrupt's median"


ENOUGH = 1000
"""Fewer interrupts than this have no 99th percentile worth the name: less than ten are beyond it."""


def warnings(figures: Figures, plan: Plan, waiting: float) -> list[str]:
    """Return the warnings about the figures."""
    found = []
    loads = {what: median(values) for (what, _), values in figures.values.items() if what.startswith("load ")}
    for (what, _), values in figures.values.items():
        if what in loads:
            loads[what] = max(loads[what], median(values))
    busy = [f"{what.removeprefix('load ')}: {load:.0%}" for what, load in loads.items() if load > BUSY]
    if busy:
        found.append(f"THE LOAD WAS THE BOTTLENECK ({', '.join(busy)}): the servers may be faster")
    few = [what for what, count in _counts(figures, plan).items() if count < ENOUGH]
    if few:
        found.append(f"TOO FEW INTERRUPTS FOR A P99 ({', '.join(few)}): fewer than {ENOUGH:,}")
    if waiting > IDLE:
        found.append(f"THE MACHINE WAS NOT IDLE: a load average of {waiting:.1f} before it began")
    return found
