"""`scripts/chaos`: a run, and what was lost and how long anybody waited."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from random import Random
from time import perf_counter

from . import deploys, outage
from .crowd import crowd
from .faults import Faults
from .machines import in_private_network
from .users import Report, User

KINDS = (
    "kill", "stop", "deploy", "store_kill", "store_stop", "store_rollback", "store_flush", "drop_connections",
    "flush_scripts",
)  # fmt: skip

CUTS = ("cut_from_store", "cut_from_peers", "cut_from_users", "cut_from_all")

SILENCE_S = 3.0
"""Time after which users on other machines go elsewhere; their servers send heartbeats each second."""

TOLD = "cursor_ahead"
"""Reason of a loss after a node was cut off from the store for longer than its lease: its users saw what the
store does not have, and those who come elsewhere are told so."""


async def run(
    *,
    seed: str,
    seconds: float,
    nodes: int = 3,
    users: int = 20,
    pause_s: float = 2.0,
    lease_s: float = 2.0,
    kinds: Sequence[str] = KINDS,
    quiet: bool = False,
    machines: bool = False,
) -> tuple[Report, dict[str, int]]:
    """Return what users saw while faults happened, and the number of faults by kind.

    Args:
        seed: Seed of all decisions; the machine's timing is not part of it.
        seconds: Time in which faults happen.
        nodes: Number of servers.
        users: Number of users.
        pause_s: Mean time between two faults.
        lease_s: Lease of the servers.
        kinds: Kinds of faults.
        quiet: Whether faults are not printed.
        machines: Whether each server, and the store, is on a machine of its own.
    """
    report, over = Report(), asyncio.Event()

    def join(name: str, urls: list[str], random: Random) -> User:
        return User(name, urls, random, report, SILENCE_S) if machines else User(name, urls, random, report)

    async with crowd(
        join, report, seed=seed, nodes=nodes, users=users, lease_s=lease_s, quiet=quiet, machines=machines
    ) as (cluster, say):
        faults = Faults(cluster, Random(f"{seed} faults"), say)
        breaking = asyncio.create_task(faults.run(over, list(kinds), pause_s))
        await asyncio.sleep(seconds)
        over.set()
        await breaking
    return report, faults.counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it from the command line; return 1 when something was lost or a rule was broken."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seed", default="1", help="seed of all decisions (default: %(default)s)")
    parser.add_argument(
        "--mode",
        choices=("faults", "partitions", "deploy", "store-stopped", "store-killed"),
        default="faults",
        help="faults: random ones; partitions: also cuts between machines, each a network namespace (root); "
        "deploy: SIGTERM to one server after the other, a new one in its place; store-…: the store is away "
        "for 10 s, while users stay at their servers (default: %(default)s)",
    )
    parser.add_argument("--seconds", type=float, default=60, help="time with faults (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=3, help="servers (default: %(default)s)")
    parser.add_argument("--users", type=int, help="users (default: 20, with deploys 300, without a store 40)")
    parser.add_argument("--pause-s", type=float, default=2, help="mean time between faults (default: 2)")
    parser.add_argument("--lease-s", type=float, default=2, help="lease of the servers (default: 2)")
    parser.add_argument(
        "--fault", action="append", choices=(*KINDS, *CUTS), help="only these faults (repeatable)"
    )
    given = parser.parse_args(arguments)
    if given.mode == "deploy":
        return _deploy(given)
    if given.mode.startswith("store-"):
        return _outage(given)
    machines = given.mode == "partitions"
    if machines:
        in_private_network(sys.argv[1:] if arguments is None else arguments)
    began = perf_counter()
    report, faults = asyncio.run(
        run(
            seed=given.seed, seconds=given.seconds, nodes=given.nodes, users=given.users or 20,
            pause_s=given.pause_s, lease_s=given.lease_s,
            kinds=given.fault or (KINDS + CUTS if machines else KINDS), machines=machines,
        )
    )  # fmt: skip
    print("\n".join(lines(report, faults, perf_counter() - began)))
    if machines:
        del report.lost[TOLD]
    return 1 if report.wrong or report.lost else 0


def _deploy(given: argparse.Namespace) -> int:
    report, cut, stops = asyncio.run(
        deploys.run(seed=given.seed, nodes=given.nodes, users=given.users or 300)
    )
    print("\n".join(_seen(report)))
    print(f"cut         {len(cut)} turns that took longer than the drain ({deploys.DRAIN_S:g} s)")
    print(f"stops       {_times(stops)}")
    return 1 if report.wrong or report.lost else 0


def _outage(given: argparse.Namespace) -> int:
    report, phases = asyncio.run(
        outage.run(seed=given.seed, away=given.mode.removeprefix("store-"), users=given.users or 40)
    )
    print("\n".join(_seen(report)))
    for name, times in phases.items():
        print(f"{name:12}{times.turns:,} turns; interrupt to end: {_times(times.interrupts)}")
        print(f"{'':12}input to its acceptance: {_times(times.accepts)}")
    return 1 if report.wrong or report.lost else 0


def lines(report: Report, faults: dict[str, int], took_s: float) -> list[str]:
    """Return the report as text."""
    listed = ", ".join(f"{count} {name}" for name, count in sorted(faults.items()))
    return [
        "",
        f"faults      {sum(faults.values())} in {took_s:.0f} s: {listed or 'none'}",
        *_seen(report),
    ]


def _seen(report: Report) -> list[str]:
    return [
        f"events      {report.events:,} numbered, none lost, doubled or out of order unless listed as wrong",
        f"turns       {sum(report.ends.values()):,}: {_counts(report.ends)}",
        f"resumes     {report.resumed:,}, {report.snapshots:,} with a snapshot, {report.taken_back:,} "
        f"characters taken back, {report.own_ends} turns with an end that only their user saw",
        f"waits       until resumed:      {_times(report.waits)}",
        f"            interrupt to end:   {_times(report.interrupts)}",
        f"            between two events: {_times(report.silences)}",
        f"lost        {sum(report.lost.values())} sessions {_counts(report.lost)}",
        f"wrong       {len(report.wrong)}",
        *(f"            {each}" for each in report.wrong),
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda pair: -pair[1]))


def _times(times: list[float]) -> str:
    if not times:
        return "none"
    found = sorted(times)
    middle, high = found[len(found) // 2], found[min(len(found) - 1, len(found) * 99 // 100)]
    p50, p99, longest = (f"{each * 1000:,.1f} ms" for each in (middle, high, found[-1]))
    return f"p50 {p50}, p99 {p99}, longest {longest} ({len(found):,})"
