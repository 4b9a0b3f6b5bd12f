"""Report of the figures: table, JSON and check of the limits."""

from __future__ import annotations

import os
import platform
from typing import Any
from urllib.parse import urlsplit

from .figures import TIMES, Figures
from .machine import Watch
from .options import QUANTILES, Options

BUSY = 0.8
"""A generator that uses more of its core than this may be what is slow."""
LATE_S = 0.01
"""And so may one whose own 99th percentile of lag is above this, in seconds."""


def summary(
    options: Options, figures: Figures, own: Watch, server: Watch | None, tokens_per_s: float
) -> dict[str, Any]:
    """Return all figures of a run, ready for JSON."""
    url = urlsplit(options.url)
    result: dict[str, Any] = {
        "server": f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}",  # a query may hold a secret
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "sessions": {
            "wanted": options.sessions,
            "reached": figures.reached,
            "lines_dropped": figures.dropped,
        },
        "inputs": figures.asked,
        "turns": dict(figures.turns.most_common()),
        "cut_before_first_token": figures.cut_early,
        "interrupts": dict(figures.outcomes.most_common()),
        "tokens": figures.tokens,
        "tokens_per_s": round(tokens_per_s, 1),
        "stale": figures.stale,
        "times": {name: _times(figures, name) for name in TIMES},
        "errors": {kind: number for kind, number in figures.errors.most_common() if number},
        "generator": {"cpu": round(own.cpu_share, 3), "bottleneck": bottleneck(figures, own)},
    }
    if server is not None:
        names = ("rss_mib_before", "rss_mib_max", "rss_mib_after")
        result["process"] = {
            "cpu": round(server.cpu_share, 3),
            "cpu_max": round(server.cpu_share_max, 3),
            "cpu_us_per_token": round(server.cpu_s / max(figures.tokens, 1) * 1e6, 2),
            **{name: round(size, 1) for name, size in zip(names, server.rss_mib, strict=True)},
        }
    result["missed"] = missed(options, figures, result)
    return result


def _times(figures: Figures, name: str) -> dict[str, float]:
    times = figures.times[name]
    quantiles = {f"{label}_ms": round(times.quantile(q) * 1000, 3) for label, q in QUANTILES.items()}
    return {"count": times.count, **(quantiles if times.count else {})}


def bottleneck(figures: Figures, own: Watch) -> str | None:
    """Return the reason why the generator may have been too slow, or None."""
    late = figures.times["lag"].quantile(0.99)
    if own.cpu_share_max > BUSY:
        return f"it used up to {own.cpu_share_max:.0%} of its core"
    if late > LATE_S:
        return f"one in a hundred of its own steps came {late * 1000:.0f} ms late or more"
    return None


def missed(options: Options, figures: Figures, result: dict[str, Any]) -> list[str]:
    """Return the missed limits as text; a missing duration misses its limit."""
    counts = {
        "errors": sum(figures.errors.values()),
        "stale": figures.stale,
        "failed": sum(n for kind, n in figures.turns.items() if kind.startswith("failed")),
    }
    found = [] if figures.reached else ["no session was opened"]
    for name, most in options.limits.items():
        if name in counts:
            if counts[name] > most:
                found.append(f"{name}: {counts[name]}, at most {most:g}")
            continue
        time, quantile, _ = name.rsplit("-", 2)
        value = result["times"][time].get(f"{quantile}_ms")
        if value is None and time != "stale":
            found.append(f"{name}: never measured, at most {most:g}")
        elif value is not None and value > most:
            found.append(f"{name}: {value:g}, at most {most:g}")
    return found


def table(result: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    sessions, process = result["sessions"], result.get("process")
    lines = [
        f"{result['server']}, from a machine with {result['machine']}",
        "",
        f"sessions    {sessions['reached']} of {sessions['wanted']}",
        f"lines       {sessions['lines_dropped']} dropped on purpose",
        f"turns       {result['inputs']} asked for; {_counts(result['turns'])}",
        f"interrupts  {_counts(result['interrupts'])}",
        f"cut         {result['cut_before_first_token']} turns before their first token",
        f"tokens      {result['tokens']:,}, {result['tokens_per_s']:,.0f} a second",
        f"stale       {result['stale']}",
        f"errors      {_counts(result['errors'])}",
    ]
    if process:
        lines.append(
            f"process     {process['cpu']:.0%} of a core, at most {process['cpu_max']:.0%}; "
            f"{process['cpu_us_per_token']:g} µs a token; {process['rss_mib_before']:g} MiB before, "
            f"{process['rss_mib_max']:g} at most, {process['rss_mib_after']:g} after"
        )
    lines += ["", "| milliseconds | count | p50 | p90 | p99 | max |", "|---|---|---|---|---|---|"]
    for name, title in TIMES.items():
        times = result["times"][name]
        cells = [f"{times[f'{q}_ms']:.2f}" if times["count"] else "" for q in QUANTILES]
        lines.append(f"| {title} | {times['count']} | {' | '.join(cells)} |")
    generator = result["generator"]
    lines += ["", f"generator: {generator['cpu']:.0%} of a core"]
    if generator["bottleneck"]:
        lines.append(f"THE GENERATOR WAS THE BOTTLENECK: {generator['bottleneck']}; the server may be faster")
    lines += [f"MISSED: {limit}" for limit in result["missed"]]
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in counts.items()) or "none"
