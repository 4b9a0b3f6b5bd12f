"""A rolling deploy under load: SIGTERM to one node after the other, and a new process in its place."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from random import Random
from time import perf_counter
from typing import Any

from live_server import RawClient

from .crowd import Say, crowd
from .faults import Cluster
from .users import Report, User

DRAIN_S = 3.0

SLACK_S = 0.5
"""Time for which a busy machine may delay a turn, or the news of the deploy."""

STOP_S = 30.0

PAUSE_S = 2.0
"""Time from a node's start to the end of the next one."""


class Talker(User):
    """A user who talks all the time, and goes to another node when its own one asks for it.

    Args:
        cut: Where it counts the turns that were longer than the drain.
        others: See `User`.
    """

    def __init__(self, cut: list[str], *others: Any) -> None:
        super().__init__(*others)
        self._cut = cut
        self._due: dict[str, float] = {}
        self._goaway_at: float | None = None

    @property
    def _leaves(self) -> bool:
        return self._goaway_at is not None

    async def _visit(self, over: asyncio.Event) -> None:
        self._goaway_at = None
        client = await self._come()
        try:
            while not (over.is_set() or self._leaves):
                await self._speak(client)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._random.expovariate(1 / 0.5)):
                        await self.until(client, "goaway")
            if self._leaves:
                self._gone_at = perf_counter()
        finally:
            client.socket.transport.abort()

    async def _speak(self, client: RawClient) -> None:
        """Ask for an answer that takes a known time, and take it or interrupt it."""
        takes_s = (
            self._random.uniform(0.1, 1.5) if self._random.random() < 0.8 else self._random.uniform(2, 8)
        )
        text = f"speak {takes_s:.2f} {self.name} {self._asked}" + " word" * int(takes_s * 3)
        turn = await self.ask(client, text)
        self._due[turn] = perf_counter() + takes_s
        if self._random.random() < 0.1:
            await self.until(client, "text.delta")
            began = perf_counter()
            self._interrupted.add(turn)
            await client.send({"type": "interrupt", "id": f"x{turn}", "turn_id": turn})
            await self.until(client, "turn.ended", turn_id=turn)
            self._report.interrupts.append(perf_counter() - began)
            return
        await self.until(client, "turn.ended", turn_id=turn)
        if self.turns[turn]["end"][0] == "completed":
            assert self.turns[turn]["text"] == f"answer to {text}", self.turns[turn]
            self._answered.append(text)

    def _take(self, event: dict[str, Any]) -> None:
        if event["type"] == "goaway" and self._goaway_at is None:
            self._goaway_at = perf_counter()
        super()._take(event)
        if event["type"] == "turn.ended" and event["status"] == "failed":
            self._check_loss(event)
        if event["type"] == "snapshot":
            raise AssertionError("a snapshot: something was taken back by a deploy")

    def _check_loss(self, event: dict[str, Any]) -> None:
        """Allow the end by a deploy of a turn that could not end before the deadline, and nothing else."""
        assert event["reason"] == "shutdown", event
        assert self._goaway_at is not None, "a node has stopped without notice"
        early_s = self._goaway_at + DRAIN_S - self._due[event["turn_id"]]
        assert early_s < SLACK_S, f"a turn that had to end {early_s:.2f} s before the deadline is lost"
        self._cut.append(event["turn_id"])


async def run(
    *,
    seed: str,
    nodes: int = 3,
    users: int = 300,
    rounds: int = 1,
    quiet: bool = False,
) -> tuple[Report, list[str], list[float]]:
    """Deploy all nodes under load; return what users saw, the turns that were cut, and each stop's time.

    Args:
        seed: Seed of all decisions of users.
        nodes: Number of servers.
        users: Number of users.
        rounds: How often each node is deployed.
        quiet: Whether nothing is printed.
    """
    report = Report()
    cut: list[str] = []

    def join(name: str, urls: list[str], random: Random) -> User:
        return Talker(cut, name, urls, random, report)

    async with crowd(join, report, seed=seed, nodes=nodes, users=users, lease_s=6.0, quiet=quiet) as (
        cluster,
        say,
    ):
        stops = await _deploy(cluster, rounds, say)
    return report, cut, stops


async def _deploy(cluster: Cluster, rounds: int, say: Say) -> list[float]:
    stops = []
    await asyncio.sleep(2 * PAUSE_S)
    for number in range(rounds * len(cluster.nodes)):
        index = number % len(cluster.nodes)
        process = cluster.nodes[index].process
        process.send_signal(signal.SIGTERM)
        began = perf_counter()
        async with asyncio.timeout(STOP_S):
            status = await process.wait()
        stops.append(perf_counter() - began)
        say(f"node {index} has ended after {stops[-1]:.2f} s")
        assert status == -signal.SIGTERM, f"a node has ended with status {status}"  # as uvicorn ends
        await cluster.restart(index)
        await asyncio.sleep(PAUSE_S)
    return stops
