"""`scripts/simulate`: many seeds, or one of them to be read."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice

from msgspec import Struct

from .cluster.world import ClusterResult, simulate_cluster
from .crashing import crash_at_every_call
from .world import Result, simulate

CHUNK = 25
PROGRESS_S = 10.0


class _Totals(Struct):
    """What has been simulated so far."""

    seeds: int = 0
    events: int = 0
    numbered: int = 0
    steps: int = 0
    seconds: float = 0.0
    faults: int = 0
    resumed: int = 0
    lost: int = 0

    def add(self, result: Result | ClusterResult) -> None:
        self.seeds += 1
        self.events += result.events
        self.seconds += result.seconds
        if isinstance(result, Result):
            self.numbered += result.numbered
            self.steps += result.steps
        else:
            self.faults += sum(result.faults.values())
            self.resumed += result.resumed
            self.lost += result.lost

    def line(self, took_s: float) -> str:
        more = (
            f"{self.faults:,} faults, {self.resumed:,} resumes, {self.lost:,} sessions lost to two faults "
            "at a time, and told"
            if self.faults
            else f"{self.numbered:,} numbered, {self.steps:,} steps"
        )
        return (
            f"{self.seeds:,} seeds, {self.events:,} events received by clients ({more}), "
            f"{self.seconds / 3600:,.0f} h of virtual time "
            f"in {took_s:,.0f} s: {self.events / took_s:,.0f} events/s"
        )


def _seeds(first: int, number: int | None) -> Iterator[range]:
    """Yield runs of seeds; without end when no number is given."""
    starts = count(first, CHUNK) if number is None else iter(range(first, first + number, CHUNK))
    end = None if number is None else first + number
    for start in starts:
        yield range(start, start + CHUNK if end is None else min(start + CHUNK, end))


AnyResult = Result | ClusterResult


def _simulate_all(cluster: bool, seeds: range) -> list[AnyResult]:
    return [_simulate(cluster, str(seed)) for seed in seeds]


def _simulate(cluster: bool, seed: str, print_line: Callable[[str], None] | None = None) -> AnyResult:
    return simulate_cluster(seed, print_line) if cluster else simulate(seed, print_line)


def _results(jobs: int, chunks: Iterator[range], cluster: bool) -> Iterator[AnyResult]:
    run = partial(_simulate_all, cluster)
    if jobs == 1:
        for chunk in chunks:
            yield from run(chunk)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        # A few at a time: `imap` would read an endless iterator to its end.
        while batch := list(islice(chunks, jobs * 8)):
            for results in pool.imap_unordered(run, batch):
                yield from results


def _run_many(options: argparse.Namespace, report: Callable[[str], None]) -> AnyResult | None:
    """Run seeds until one fails, all are done, or there were enough events; returns what failed."""
    totals, began, told = _Totals(), time.perf_counter(), time.perf_counter()
    number = None if options.events else options.seeds
    for result in _results(options.jobs, _seeds(options.first, number), options.cluster):
        totals.add(result)
        if result.fault is not None:
            return result
        now = time.perf_counter()
        if now - told > PROGRESS_S:
            told = now
            report(f"… {totals.line(now - began)}")
        if options.events and totals.events >= options.events:
            break
    report(f"{totals.line(time.perf_counter() - began)}; nothing lost, doubled, reordered, stale or hung")
    return None


def _show(cluster: bool, seed: str, last: int | None, report: Callable[[str], None]) -> AnyResult:
    lines: list[str] = []
    result = _simulate(cluster, seed, lines.append)
    for line in lines[-last:] if last else lines:
        report(line)
    report(f"seed {seed}: {result.fault or 'no fault'}; hash {result.digest}, {result.events} events")
    return result


def _crash(options: argparse.Namespace, report: Callable[[str], None]) -> int:
    """Run conversations with a crash at every call of the store; return the exit status."""
    runs, began = 0, time.perf_counter()
    for seed in range(options.first, options.first + options.seeds):
        more, fault = crash_at_every_call(seed)
        runs += more
        if fault is not None:
            report(fault)
            return 1
    took_s = time.perf_counter() - began
    report(
        f"{options.seeds:,} conversations, {runs:,} crashes in {took_s:,.0f} s; nothing that was told is lost"
    )
    return 0


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/simulate",
        description="Simulates servers, clients and networks that do anything, each run from one seed.",
    )
    parser.add_argument("--seeds", type=int, default=1000, help="how many runs (default: 1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--events", type=int, help="run until clients have received so many events")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--seed", help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="and print all that happens in it")
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="several servers that share a store, and faults of them and of the store",
    )
    parser.add_argument(
        "--crashes", action="store_true", help="end the server at every call of its store instead"
    )
    options = parser.parse_args()
    if options.crashes:
        return _crash(options, lambda line: print(line, flush=True))
    if options.seed is not None:
        result = _show(options.cluster, options.seed, None if options.trace else 1, print)
        return 1 if result.fault else 0
    failed = _run_many(options, lambda line: print(line, flush=True))
    if failed is None:
        return 0
    print(f"seed {failed.seed} failed; its last steps, run again:", flush=True)
    again = _show(options.cluster, failed.seed, 40, print)
    if again.digest != failed.digest:
        print("and it went another way this time: the simulation depends on something beside the seed")
    kind = "--cluster " if options.cluster else ""
    print(f"all of them: scripts/simulate {kind}--seed {failed.seed} --trace")
    return 1
