"""Users who talk to the nodes of a new cluster."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from time import perf_counter

from processes import HERE
from valkey_process import valkey

from .faults import Cluster
from .machines import Place, network
from .users import Report, User

Say = Callable[[str], None]
"""Prints a line with the time."""


@asynccontextmanager
async def crowd(
    join: Callable[[str, list[str], Random], User],
    report: Report,
    *,
    seed: str,
    nodes: int,
    users: int,
    lease_s: float,
    quiet: bool,
    machines: bool = False,
) -> AsyncIterator[tuple[Cluster, Say]]:
    """Let users talk until the block ends, and then check what they remember.

    Args:
        join: Makes a user, from a name, the URLs of the nodes, and a source of decisions.
        report: Where the users report.
        seed: Seed of all decisions of users.
        nodes: Number of servers.
        users: Number of users.
        lease_s: Lease of the servers.
        quiet: Whether nothing is printed.
        machines: Whether each server, and the store, is on a machine of its own.
    """
    over, began = asyncio.Event(), perf_counter()

    def say(line: str) -> None:
        if not quiet:
            print(f"{perf_counter() - began:7.2f} s  {line}", flush=True)

    report.say = say
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            net, places = None, list[Place]()
            if machines:
                net = await stack.enter_async_context(network())
                places = [await net.machine() for _ in range(nodes + 1)]
            machine = places[-1].machine if places else HERE
            store = await stack.enter_async_context(valkey(Path(folder) / "valkey", machine=machine))
            cluster = Cluster(Path(folder), store, lease_s, stack, places, net)
            await cluster.start(nodes)
            urls = [node.url for node in cluster.nodes]
            async with asyncio.TaskGroup() as group:
                for n in range(users):
                    group.create_task(join(f"u{n}", urls, Random(f"{seed} {n}")).live(over))
                try:
                    yield cluster, say
                finally:
                    over.set()
