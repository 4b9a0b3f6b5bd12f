"""A store that is away for some seconds, while users stay on their lines, talk and interrupt."""

from __future__ import annotations

import asyncio
import signal
from random import Random
from time import perf_counter
from typing import Any, Literal

from msgspec import Struct, field

from live_server import RawClient
from valkey_process import ValkeyProcess

from .crowd import Say, crowd
from .users import Report, User

Away = Literal["stopped", "killed"]
PHASES = ("before", "away", "after")


class Times(Struct):
    """Times of one phase, in seconds.

    Args:
        interrupts: From an interrupt to the end of its turn.
        accepts: From an input to its acceptance.
        turns: Number of turns that have ended.
    """

    interrupts: list[float] = field(default_factory=list)
    accepts: list[float] = field(default_factory=list)
    turns: int = 0


class Phases:
    """The phases of a run.

    Attributes:
        now: The current one.
        times: The times of each.
    """

    def __init__(self) -> None:
        self.now = PHASES[0]
        self.times = {name: Times() for name in PHASES}


class Resident(User):
    """A user who stays on one line, because a store that is away moves no session.

    Args:
        phases: Where it reports times.
        others: See `User`.
    """

    def __init__(self, phases: Phases, *others: Any) -> None:
        super().__init__(*others)
        self._phases = phases

    async def live(self, over: asyncio.Event) -> None:
        """Talk on one line until it is over, then check the history."""
        try:
            client = await self._come()
            while not over.is_set():
                await self._talk(client)
                await asyncio.sleep(self._random.expovariate(1 / 0.3))
            await client.socket.close()
        except Exception as error:
            self._wrong(error)
            return
        await self._check()

    async def _talk(self, client: RawClient) -> None:
        phase = self._phases.now
        times, began = self._phases.times[phase], perf_counter()
        long = self._random.random() < 0.6
        text = "long" if long else f"short {self.name} {self._asked}"
        turn = await self.ask(client, text)
        if phase == self._phases.now:
            times.accepts.append(perf_counter() - began)
        if long:
            words = self._random.randrange(5, 100)
            while self.turns[turn]["text"].count("long") < words:
                await self.until(client, "text.delta")
            phase, began = self._phases.now, perf_counter()
            self._interrupted.add(turn)
            await client.send({"type": "interrupt", "id": f"x{turn}", "turn_id": turn})
        await self.until(client, "turn.ended", turn_id=turn)
        if long and phase == self._phases.now:
            self._phases.times[phase].interrupts.append(perf_counter() - began)
        self._phases.times[phase].turns += 1
        status = self.turns[turn]["end"][0]
        assert status == ("interrupted" if long else "completed"), self.turns[turn]
        if not long:
            assert self.turns[turn]["text"] == f"answer to {text}", self.turns[turn]
            self._answered.append(text)


async def run(
    *,
    seed: str,
    away: Away,
    away_s: float = 10.0,
    nodes: int = 2,
    users: int = 40,
    quiet: bool = False,
) -> tuple[Report, dict[str, Times]]:
    """Return what users saw, and the times before, during and after the outage.

    Args:
        seed: Seed of all decisions of users.
        away: Whether the store stands still or is killed.
        away_s: Time for which it is away; as long are the phases before and after it.
        nodes: Number of servers.
        users: Number of users.
        quiet: Whether nothing is printed.
    """
    report, phases = Report(), Phases()

    def join(name: str, urls: list[str], random: Random) -> User:
        return Resident(phases, name, urls, random, report)

    async with crowd(join, report, seed=seed, nodes=nodes, users=users, lease_s=6.0, quiet=quiet) as (
        cluster,
        say,
    ):
        await _break(cluster.store, phases, away, away_s, say)
    return report, phases.times


async def _break(store: ValkeyProcess, phases: Phases, away: Away, away_s: float, say: Say) -> None:
    await asyncio.sleep(away_s)
    phases.now = "away"
    say(f"the store is {away}")
    if away == "stopped":
        store.signal(signal.SIGSTOP)
    else:
        await store.kill()
    await asyncio.sleep(away_s)
    if away == "stopped":
        store.signal(signal.SIGCONT)
    else:
        await store.start()
    phases.now = "after"
    say("the store is back")
    await asyncio.sleep(away_s)
