"""Measure interrupts, tokens, CPU time and memory against a floor.

    .venv/bin/python scripts/benchmark.py [--quick] [--json FILE]
    .venv/bin/python scripts/benchmark.py --voice [--json FILE]

The floor is a bare uvicorn application that sends prepared frames and has no session, no turn and no fence.
bargein runs twice, the second time with metrics. A fourth server implements only the part of a WebSocket
server that the clients need; it gives the least possible time of an interrupt and a first token in Python.
Servers and load run on a core each where there are two. The servers are measured in interleaved segments of
a few seconds, in new processes in each round, and each ratio has a confidence interval. Run it on an idle
machine. It takes half an hour.

With `--voice` it measures voice instead, as `measure_voice.py` does, and prints the rows of the page.

A server that logs a warning or an error, or a lost connection, ends the run with exit code 1 and without
figures. scripts/BENCHMARK.md describes the method.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from loadgen.run import loop_factory
from loadgen.websocket import Refused
from speed.alone import alone
from speed.figures import Figures
from speed.footer import footer, load_average, machine
from speed.memory import memory
from speed.plan import Plan
from speed.processes import (
    ALL,
    LOAD_CORE,
    NAMES,
    Broken,
    allow_files,
    end_with_parent,
    pin,
    served,
)
from speed.rounds import measure
from speed.servers import serve
from speed.table import rows, table, value

STARTED = time.monotonic()
QUICK = Plan(rounds=1, seconds=1.0, looks=7, cleanups=3, interrupts=100)


def announce(what: str) -> None:
    """Print the next step of the run, with the time."""
    print(f"{time.monotonic() - STARTED:4.0f} s  {what}", file=sys.stderr, flush=True)


async def run(plan: Plan) -> Figures:
    """Measure everything that needs a server."""
    figures, start = Figures(), partial(served, Path(__file__))
    await memory(start, plan, figures, announce)
    await measure(start, plan, figures, announce)
    return figures


def why(error: BaseException) -> list[str]:
    """Return a description of each failure, without repetitions."""
    notes = list(getattr(error, "__notes__", []))
    if isinstance(error, BaseExceptionGroup):
        return list(dict.fromkeys([*notes, *(line for inner in error.exceptions for line in why(inner))]))
    return list(dict.fromkeys([*notes, str(error) or type(error).__name__]))


def prepare() -> None:
    """Prepare this process to put load on its server processes."""
    # However we were started: a shell's background job ignores the first one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    pin(LOAD_CORE)
    allow_files()


def main() -> int:
    """Parse the command line, measure, print the table; return the exit code."""
    options = _options()
    if options.serve:
        end_with_parent()
        serve(options.serve, options.port, options.core)
        return 0
    if options.voice:
        return _voice(options)
    plan = QUICK if options.quick else _plan(options)
    waiting = load_average()
    prepare()
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            figures = runner.run(run(plan))
        by_itself = alone()
    except KeyboardInterrupt:
        return 130
    except (Broken, Refused, TimeoutError, ExceptionGroup) as error:
        print("no figures:", *why(error), sep="\n", file=sys.stderr)
        return 1
    below = footer(figures, plan, waiting)
    print("\n".join([*table(figures, by_itself, plan), "", *below]))
    if options.json is not None:
        raw = {"machine": machine(), "plan": _dict(plan), "rows": _rows(figures, plan), "alone_ns": by_itself}
        raw |= {"notes": below, **figures.raw()}
        options.json.write_text(json.dumps(raw) + "\n", "utf-8")
    return 0


def _options() -> Any:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add: Any = parser.add_argument
    default = Plan()
    add("--quick", action="store_true", help="one round in less than four minutes, for a first look")
    add("--json", type=Path, metavar="FILE", help="write the measurements of each round")
    add("--voice", action="store_true", help="measure voice, in a quarter of an hour")
    add("--rounds", type=_size, default=default.rounds)
    add("--seconds", type=float, default=default.seconds, help="minimum length of a segment (%(default)s)")
    add("--sessions", type=_sizes, default=default.sessions, help="numbers of sessions (1,100,500)")
    add(
        "--flat-out",
        type=_sizes,
        default=default.flat_out,
        help="numbers of sessions with tokens flat out (1,200)",
    )
    add(
        "--endless",
        type=_sizes,
        default=default.endless,
        help="numbers of sessions that interrupt such turns (1,10)",
    )
    add(
        "--looks",
        type=_size,
        default=default.looks,
        help="steps of the search for sessions on one core (%(default)s)",
    )
    add(
        "--step",
        type=float,
        default=default.step,
        help="share by which the number of sessions changes (%(default)s)",
    )
    add("--cleanups", type=_size, default=default.cleanups, help="interrupts with slow cleanup (%(default)s)")
    add("--interrupts", type=_size, default=default.interrupts, help="interrupts for each p99 (%(default)s)")
    add("--serve", choices=ALL, help=argparse.SUPPRESS)
    add("--port", type=int, default=0, help=argparse.SUPPRESS)
    add("--core", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _voice(options: Any) -> int:
    from measure_voice import PARTS, keep, measured  # it needs the extra `voice`, and the rest does not
    from talk.table import figures_of, table

    found = measured(set(PARTS), "espeak")
    if options.json is not None:
        found = keep(found, options.json)
    print("\n".join(table(figures_of(found))))
    return 0


def _plan(options: Any) -> Plan:
    return Plan(**{name: getattr(options, name) for name in Plan.__struct_fields__})


def _dict(plan: Plan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in Plan.__struct_fields__}


def _rows(figures: Figures, plan: Plan) -> list[dict[str, Any]]:
    return [{"title": row.title} | {name: value(figures, row, name) for name in NAMES} for row in rows(plan)]


def _size(text: str) -> int:
    return _sizes(text)[0]


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(","))
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError("expected 1 or more")
    return sizes


if __name__ == "__main__":
    sys.exit(main())
