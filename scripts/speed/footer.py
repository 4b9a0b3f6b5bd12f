"""Footer of the table: the machine, and the reliability of the figures."""

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
"""A higher load average before the run belongs to other processes."""


def machine() -> str:
    """Return the machine and the versions of the software."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "websockets", "uvloop", "msgspec"))
    return (
        f"{os.cpu_count()} cores{_model()}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def _model() -> str:
    """Return the processor's name where the system provides it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f" ({names[0]})" if names else ""


def load_average() -> float:
    """Return the load average of the last minute; 0 where there is none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def footer(figures: Figures, plan: Plan, waiting: float) -> list[str]:
    """Return the lines of the footer.

    Args:
        figures: The measurements.
        plan: Their number.
        waiting: The load average before the run.
    """
    most = max(plan.sessions)
    floor, ours = (figures.get(f"utilisation {most}", name) for name in (FLOOR, OURS))
    load = max(figures.get(f"load {most}", name) for name in NAMES)
    return [
        machine(),
        f"medians and median ratios of {plan.rounds} rounds ({plan.looks - APPROACH} steps of the search for "
        "sessions on one core); p99 over all rounds; memory measured once; new processes in each round",
        f"in parentheses: {SURE:.0%} bootstrap confidence interval over the rounds",
        f"CPU with {most} sessions: floor {floor:.0%}, bargein {ours:.0%}, load generator {load:.0%}",
        f"minimum number of interrupts per server: {_interrupts(figures, plan)}",
        _noise(figures, plan),
        f"load average before the run: {waiting:.1f}",
        *warnings(figures, plan, waiting),
    ]


def _counts(figures: Figures, plan: Plan) -> dict[str, int]:
    """Return the smallest number of durations behind a p99 of any server."""
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
    return f"noise: rounds differ by up to {apart:.0%} in the median of interrupts"


ENOUGH = 1000
"""With fewer interrupts less than ten lie beyond the 99th percentile."""


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
        found.append(f"THE MACHINE WAS NOT IDLE: a load average of {waiting:.1f} before the run")
    return found
