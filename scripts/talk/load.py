"""Load of callers with speech: options, the run, and its report."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from loadgen.machine import usage_of
from loadgen.options import above_zero, positive, share, url

from .caller import Format
from .clips import backchannels, spoken
from .conversation import Conversation, Plan
from .measures import Figures

FORMATS = (Format(16_000), Format(8000, "mulaw"), Format(24_000), Format(48_000))
FAULTS = (
    "sound lost, ms", "sound doubled, ms", "sound after the end", "sound while held", "events lost",
    "events doubled", "ends doubled", "ends of no turn", "holds that do not fit", "holds for ever",
    "speech that does not fit", "audio clock wrong", "audio clock ahead", "heard more than was sent",
    "heard wrong", "turns hung", "no answer", "no answer to stop",
)  # fmt: skip
"""Counts that must be 0."""
_SAMPLE_S = 5.0
_WARM_UP = 0.25


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of a command line; exits with 2 when it is wrong."""
    parser = argparse.ArgumentParser(
        description="Let callers speak to a server that runs the agent talk.agent:talker, and count.",
        epilog="example: cd scripts && bargein-server talk.agent:talker --voice, and then "
        "scripts/load_test.py ws://127.0.0.1:8000/v1/session --voice --minutes 60 --pid 4711",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("url", type=url, help="ws://HOST:PORT/v1/session")
    add("--voice", action="store_true", required=True)
    add("--sessions", type=positive, default=8, metavar="N", help="callers at a time (%(default)s)")
    add("--minutes", type=above_zero, default=5.0, metavar="M", help="minutes of talk (%(default)s)")
    add("--drops", type=share, default=0.2, metavar="SHARE", help="share of exchanges that lose the line")
    add("--coughs", type=share, default=0.3, metavar="SHARE", help="share of exchanges with a cough")
    add("--seed", type=int, default=1, help="seed of the random numbers (%(default)s)")
    add("--pid", type=int, help="id of the server's process on this machine; adds its memory")
    add("--json", type=Path, metavar="FILE", help="write the figures")
    return parser.parse_args(arguments)


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Let callers talk; return the counts, the times and the server's memory."""
    counts: Counter[str] = Counter()
    figures: Figures = {}
    plan = Plan(spoken(), backchannels(), options.drops, options.coughs)
    loop = asyncio.get_running_loop()
    until = loop.time() + 60 * options.minutes
    sizes: list[tuple[float, float]] = []
    async with asyncio.TaskGroup() as watching:
        watch = watching.create_task(_watch(options.pid, counts, sizes))
        async with asyncio.TaskGroup() as group:
            for number in range(options.sessions):
                chance = Random(f"{options.seed} {number}")
                talk = Conversation(plan, chance, counts, figures)
                group.create_task(talk.talk(options.url, FORMATS[number % len(FORMATS)], until))
                await asyncio.sleep(0.3)
        watch.cancel()
    return {
        "counts": dict(sorted((name, count) for name, count in counts.items() if count)),
        "faults": {name: counts[name] for name in FAULTS if counts[name]},
        "times": {name: _times(values) for name, values in figures.items()},
        "memory": _memory(sizes),
    }


async def _watch(pid: int | None, counts: Counter[str], sizes: list[tuple[float, float]]) -> None:
    """Note the memory of the server, and print the progress."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(_SAMPLE_S)
        at = time.monotonic() - began
        if pid is not None:
            sizes.append((at, usage_of(pid).rss_bytes / 2**20))
        faults = sum(counts[name] for name in FAULTS)
        size = f"{sizes[-1][1]:.0f} MiB" if sizes else ""
        print(
            f"{at:5.0f} s  {counts['turns']} turns  {counts['lines dropped']} lines dropped  "
            f"{counts['barge-ins']} barge-ins  {faults} faults  {size}",
            file=sys.stderr,
            flush=True,
        )


def _times(values: list[float]) -> dict[str, float]:
    quantiles = zip(("p50", "p90", "p99", "max"), np.percentile(values, [50, 90, 99, 100]), strict=True)
    return {"count": len(values), **{name: round(float(value), 1) for name, value in quantiles}}


def _memory(sizes: list[tuple[float, float]]) -> dict[str, float]:
    """Return the memory after a warm-up and at the end, and MiB an hour."""
    settled = sizes[int(len(sizes) * _WARM_UP) :]
    if len(settled) < 8:
        return {}
    at, size = np.array(settled).T
    part = max(1, len(settled) // 5)
    slope = float(np.polyfit(at / 3600, size, 1)[0])
    found = {"after_warm_up": size[:part].mean(), "at_the_end": size[-part:].mean(), "slope_per_hour": slope}
    return {name: round(float(value), 1) for name, value in found.items()}


def report(result: dict[str, Any]) -> str:
    """Return the figures for people, in Markdown."""
    lines = [f"{name:32}{count}" for name, count in result["counts"].items()]
    lines += ["", "| ms | count | p50 | p90 | p99 | max |", "|---|---|---|---|---|---|"]
    for name, times in result["times"].items():
        lines.append(f"| {name} | " + " | ".join(f"{value:g}" for value in times.values()) + " |")
    if memory := result["memory"]:
        lines += [
            "",
            f"memory of the server: {memory['after_warm_up']:g} MiB after a warm-up, "
            f"{memory['at_the_end']:g} at the end, {memory['slope_per_hour']:+g} an hour",
        ]
    lines += [f"FAULT: {name}: {count}" for name, count in result["faults"].items()]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return 1 when a check failed."""
    options = parse(arguments)
    try:
        result = asyncio.run(run(options))
    except KeyboardInterrupt:
        return 130
    print(report(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    return 1 if result["faults"] or not result["counts"].get("turns") else 0
