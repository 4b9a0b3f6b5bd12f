"""Simulate a reconnect storm and a drain of 100,000 sessions.

    .venv/bin/python scripts/simulate_storm.py

A queue for the processor of each node and one for that of the store, clients with the backoff of bargein's
own, and virtual time. It checks the arithmetic of the page on many machines: how long clients wait when a
node dies, and when one is deployed.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections.abc import Iterator, Sequence
from itertools import count

from msgspec import Struct

BACKOFF_S = 0.5
"""Bound of the first delay of bargein's clients, which is random."""

RECONNECTS_PER_S = 1000.0
"""Clients that a node which drains sends away in a second."""


class Costs(Struct, frozen=True):
    """Measured costs of one session, in seconds of a processor.

    Args:
        handshake_s: Handshake and first frame at a node.
        takeover_s: Claim and restore of a session of ten turns at a node.
        busy: Share of each node's processor that speaks meanwhile.
        store_s: Read, claim and write in the store.
        store_busy: Share of the store's processor that is used meanwhile.
    """

    handshake_s: float = 0.0004
    takeover_s: float = 0.0028
    busy: float = 0.5
    store_s: float = 0.00012
    store_busy: float = 0.5


class Queue:
    """A processor that does one thing after the other.

    Args:
        busy: Share of it that other work takes.

    Attributes:
        longest_s: Longest time that something has waited for it.
    """

    def __init__(self, busy: float) -> None:
        self._free_at = 0.0
        self._slower = 1.0 / (1.0 - busy)
        self.longest_s = 0.0

    def done_at(self, now: float, cost_s: float) -> float:
        """Return when something is done that comes now."""
        began = max(now, self._free_at)
        self.longest_s = max(self.longest_s, began - now)
        self._free_at = began + cost_s * self._slower
        return self._free_at


class Found(Struct):
    """Result of a run.

    Args:
        waits: Time of each client without its session, in seconds.
        node_wait_s: Longest time in the queue of a node.
        store_wait_s: Longest time in the queue of the store.
    """

    waits: list[float]
    node_wait_s: float
    store_wait_s: float


def storm(leaving: Iterator[float], nodes: int, noticed_s: float, costs: Costs, seed: int) -> Found:
    """Let clients come to other nodes.

    Args:
        leaving: Time at which each client loses its line.
        nodes: Number of nodes that stay.
        noticed_s: Time after the first loss at which sessions may be claimed.
        costs: The costs.
        seed: Seed of all decisions.
    """
    chance, order = random.Random(seed), count()
    processors, store = [Queue(costs.busy) for _ in range(nodes)], Queue(costs.store_busy)
    # When, the node that claims the session then (None for a client that comes), when its line was lost.
    events: list[tuple[float, int, Queue | None, float]] = [(at, next(order), None, at) for at in leaving]
    heapq.heapify(events)
    waits: list[float] = []
    while events:
        now, _, claiming, lost_at = heapq.heappop(events)
        if claiming is not None:
            waits.append(claiming.done_at(now, costs.takeover_s) - lost_at)
            continue
        node = chance.choice(processors)
        greeted_at = node.done_at(now, costs.handshake_s)
        searched_at = max(store.done_at(greeted_at, costs.store_s), noticed_s)
        heapq.heappush(events, (searched_at, next(order), node, lost_at))
    return Found(waits, max(each.longest_s for each in processors), store.longest_s)


def line(name: str, found: Found) -> str:
    """Return a result as text."""
    waits = sorted(found.waits)
    p50, p99 = waits[len(waits) // 2], waits[min(len(waits) - 1, len(waits) * 99 // 100)]
    return (
        f"{name}: {len(waits):,} sessions resumed, p50 {p50:.2f} s, p99 {p99:.2f} s, "
        f"longest {waits[-1]:.2f} s; "
        f"longest queue of a node {found.node_wait_s:.2f} s, of the store {found.store_wait_s:.3f} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate both; return 1 when clients wait longer than the arithmetic."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=100_000, help="sessions of all nodes (100,000)")
    parser.add_argument("--nodes", type=int, default=20, help="processes of all machines (20)")
    parser.add_argument("--lease-s", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    costs, share = Costs(), given.sessions // given.nodes
    chance = random.Random(given.seed)
    storms = (chance.random() * BACKOFF_S for _ in range(share))
    killed = storm(storms, given.nodes - 1, given.lease_s, costs, given.seed)
    print(line("a machine is gone", killed))
    drained_s = max(1.0, share / RECONNECTS_PER_S)
    drains = (chance.random() * drained_s for _ in range(share))
    drained = storm(drains, given.nodes - 1, 0.0, costs, given.seed)
    print(line("a node is deployed", drained))
    half = given.nodes // 2
    halves = (chance.random() * BACKOFF_S for _ in range(half * share))
    print(
        line(
            "half of all nodes are gone", storm(halves, given.nodes - half, given.lease_s, costs, given.seed)
        )
    )
    work_s = share * (costs.handshake_s + costs.takeover_s) / (1 - costs.busy) / (given.nodes - 1)
    bound_s = given.lease_s + work_s
    print(f"arithmetic: lease {given.lease_s} s and {work_s:.2f} s of work at each node: {bound_s:.2f} s")
    fine = max(killed.waits) < 1.5 * bound_s and max(drained.waits) < 1.0
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
