"""Times interrupts and counts tokens, processor and memory, against a floor measured in the same run.

    .venv/bin/python scripts/benchmark.py [--rounds 3] [--seconds 5] [--sessions 1,100,500]

The floor is a bare uvicorn application that sends prepared frames and knows no session, no turn and no
fence. Ours runs twice, the second time with its metrics on. Servers and load run on a core each where
there are two. Rounds alternate between the servers; figures are medians of rounds, and the last column
says how far rounds were apart: run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from loadgen.run import loop_factory
from speed.alone import alone
from speed.rounds import Figures, Plan, measure
from speed.servers import NAMES, Served, listening, pin, serve, served
from speed.table import table


async def run(servers: list[Served], plan: Plan) -> Figures:
    """Measure servers that are being started."""
    for server in servers:
        await listening(server.port)
    return await measure(servers, plan, lambda what: print(what, file=sys.stderr, flush=True))


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add: Any = parser.add_argument
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=5.0, help="of each stretch of tokens that trickle (%(default)s)")
    add("--sessions", type=_sizes, default=(1, 100, 500), help="sizes of the crowds (1,100,500)")
    add("--flat-out", type=_sizes, default=(1, 200), help="and of those that get tokens flat out (1,200)")
    add("--serve", choices=NAMES, help=argparse.SUPPRESS)
    add("--port", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port)
        return
    plan = Plan(
        rounds=options.rounds,
        seconds=options.seconds,
        sessions=options.sessions,
        flat_out=options.flat_out,
    )
    with served(Path(__file__)) as servers:
        pin(1)
        by_itself = alone()
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            print(table(runner.run(run(servers, plan)), by_itself, plan))


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(","))
    if min(sizes) < 1:
        raise argparse.ArgumentTypeError("expected 1 or more sessions")
    return sizes


if __name__ == "__main__":
    main()
