"""A whole run: users, progress and samples of the machine."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from random import Random
from time import perf_counter
from typing import Any, TextIO

from .figures import Figures
from .machine import Watch
from .options import Options, parse
from .picture import svg
from .report import summary, table
from .user import User

TICK_S = 0.02


async def run(options: Options, progress: TextIO) -> tuple[dict[str, Any], Figures]:
    """Put a server under load; return the figures of `report.summary`.

    Args:
        options: Options of the run.
        progress: Called with a line of text every second.

    Raises:
        OSError: The process of `--pid` cannot be sampled.
    """
    figures = Figures()
    own, server = Watch(), Watch(options.pid) if options.pid is not None else None
    start = perf_counter()
    full, leaves = start + options.ramp_s, start + options.ramp_s + options.duration_s
    async with asyncio.TaskGroup() as watching:
        watchers = [
            watching.create_task(_tell(figures, [w for w in (own, server) if w], options, progress)),
            watching.create_task(_feel_lag(figures)),
        ]
        tokens = watching.create_task(_tokens_between(figures, full, leaves))
        async with asyncio.TaskGroup() as users:
            for n in range(options.sessions):
                user = User(options, figures, Random(f"{options.seed} {n}"))
                users.create_task(user.talk(start + options.ramp_s * n / options.sessions, leaves))
        for watcher in watchers:
            watcher.cancel()
    for watch in (own, server):
        if watch is not None:
            watch.sample()
    return summary(options, figures, own, server, tokens.result() / max(options.duration_s, 1e-9)), figures


async def _tokens_between(figures: Figures, full: float, leaves: float) -> int:
    """Return the number of tokens received while all users talked."""
    await asyncio.sleep(max(0.0, full - perf_counter()))
    before = figures.tokens
    await asyncio.sleep(max(0.0, leaves - perf_counter()))
    return figures.tokens - before


async def _feel_lag(figures: Figures) -> None:
    """Record the lag of this event loop, which would count as the server's."""
    due = perf_counter()
    while True:
        due = max(due + TICK_S, perf_counter())
        await asyncio.sleep(due - perf_counter())
        figures.times["lag"].record(max(0.0, perf_counter() - due))


async def _tell(figures: Figures, watches: list[Watch], options: Options, progress: TextIO) -> None:
    """Report the progress once a second."""
    start, tokens = perf_counter(), 0
    while True:
        await asyncio.sleep(1.0)
        for watch in watches:
            watch.sample()
        interrupt, lag = (figures.times[name].quantile(0.99) * 1000 for name in ("interrupt", "lag"))
        print(
            f"{perf_counter() - start:5.0f} s  {figures.opened}/{options.sessions} sessions  "
            f"{sum(figures.turns.values())} turns  {figures.tokens - tokens:,} tokens/s  "
            f"interrupt p99 {interrupt:.1f} ms  {figures.stale} stale  "
            f"{sum(figures.errors.values())} errors  lag p99 {lag:.1f} ms",
            file=progress,
            flush=True,
        )
        tokens = figures.tokens


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return 1 for a missed limit or no session."""
    options = parse(arguments)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            result, figures = runner.run(run(options, sys.stderr))
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f"cannot watch process {options.pid}: {error.strerror}", file=sys.stderr)
        return 2
    print(table(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if options.picture is not None:
        title = f"{options.sessions} sessions, {result['tokens_per_s']:,.0f} tokens/s, {result['server']}"
        options.picture.write_text(svg(figures, title), "utf-8")
    return 1 if result["missed"] else 0


def loop_factory() -> Any:
    """Return the factory of uvloop where it is installed, else None."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
