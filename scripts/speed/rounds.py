"""Measurements, in segments of a few seconds interleaved among servers.

The speed of a virtual machine changes within a minute. All servers therefore keep their clients connected,
one server is active at a time, and each round has a segment of each, so the machine affects all of them
alike. A ratio belongs to one round. Each round starts new processes, because runs with one process of each
server differed by more than their intervals.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from random import Random

from .capacity import Capacity
from .crowd import Crowd
from .figures import Figures
from .floor import TURN_S
from .interrupts import Interrupts
from .plan import Plan
from .processes import ALL, FLOOR, LEAST, Serve, Served, listening
from .table import number

FLAT_OUT_TOKENS = 100_000
TURNS = 200
WARM_SESSIONS = 20
WARM_TURNS = 3
SETTLE_S = 0.2
SHORTEST_S = 0.02
"""Minimum time of a turn where few clients interrupt more often, in seconds."""
UNHURRIED_S = 0.8
"""Minimum time of a turn where the cleanup takes 0.3 s: no interrupt arrives during an earlier cleanup,
because the bound of overlapping cleanups would delay the next turn (contract 5)."""
REST_S = 0.02
"""Average pause between the end of a turn and the next input, which separates the measurements."""

Announce = Callable[[str], None]
Stretch = Callable[[Crowd], Awaitable[None]]
"""Measures one server, with clients that are connected and silent."""


async def measure(serve: Serve, plan: Plan, figures: Figures, announce: Announce) -> None:
    """Run all measurements except `memory`.

    Args:
        serve: Starts the servers.
        plan: How much.
        figures: Takes what comes out.
        announce: Called with the name of the next step.

    Raises:
        Broken: A server or a line failed.
    """
    capacity = Capacity(plan, figures)
    for n in range(plan.rounds):
        with serve(ALL) as servers:
            for server in servers:
                await listening(server)
            looks = plan.looks * (n + 1) // plan.rounds - plan.looks * n // plan.rounds
            await _Round(servers, n, plan, announce).measure(figures, capacity, looks)


class _Round:
    """A stretch of everything, of servers that have just been started."""

    def __init__(self, servers: Sequence[Served], n: int, plan: Plan, announce: Announce) -> None:
        self._servers = servers
        self._order = Random(n)
        self._name = f"round {n + 1} of {plan.rounds}"
        self._plan = plan
        self._announce = announce

    async def measure(self, figures: Figures, capacity: Capacity, looks: int) -> None:
        """Measure everything once, and look at crowds so many times."""
        plan, turn = self._plan, self._in_turns
        complete = [server for server in self._servers if server.name != LEAST]
        ours = [server for server in complete if server.name != FLOOR]
        await turn("warming up", self._servers, WARM_SESSIONS, _warm_up)
        for size in plan.sessions:
            await turn(f"{number(size)}", self._servers, size, partial(_trickle, plan, figures))
            await turn(f"{number(size)}, slow cleanup", complete, size, partial(_cleanup, plan, figures))
        await turn("how many sessions", complete, 0, capacity.look, looks)
        for size in plan.flat_out:
            await turn(f"{number(size)} flat out", complete, size, partial(_flat_out, figures))
        await turn("turns of one token", complete, 1, partial(_turns, figures))
        for size in plan.endless:
            await turn(f"interrupts of {number(size)} flat out", ours, size, partial(_endless, plan, figures))

    async def _in_turns(
        self, what: str, servers: Sequence[Served], size: int, stretch: Stretch, times: int = 1
    ) -> None:
        """Give each server a segment in random order, several times."""
        async with AsyncExitStack() as stack:
            crowds = [await stack.enter_async_context(Crowd(server, size)) for server in servers]
            for _ in range(times):
                self._announce(f"{self._name}: {what}")
                for crowd in self._order.sample(crowds, len(crowds)):
                    with no_garbage():
                        await stretch(crowd)
                    await crowd.hush()
                    crowd.server.check()
                    await asyncio.sleep(SETTLE_S)


@contextmanager
def no_garbage() -> Iterator[None]:
    """Disable garbage collection here: pauses would count as the server's."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def _warm_up(crowd: Crowd) -> None:
    """Warm up: begin and interrupt turns of every client."""
    for _ in range(WARM_TURNS):
        await crowd.start("trickle")
        await crowd.hush()


async def _trickle(plan: Plan, figures: Figures, crowd: Crowd) -> None:
    """Tokens at a steady rate: the server's CPU time, then random interrupts."""
    server, size = crowd.server, len(crowd.clients)
    await crowd.start("trickle")
    tokens, used = crowd.tokens, server.usage.cpu_s
    own, began = time.process_time(), time.perf_counter()
    await asyncio.sleep(plan.seconds)
    cpu, came = server.usage.cpu_s - used, crowd.tokens - tokens
    lasted = time.perf_counter() - began
    figures.note(f"cpu per token {size}", server.name, cpu / came)
    figures.note(f"utilisation {size}", server.name, cpu / lasted)
    figures.note(f"load {size}", server.name, (time.process_time() - own) / lasted)
    pause = min(TURN_S, max(SHORTEST_S, TURN_S * size / 100))
    found = Interrupts("trickle", pause, REST_S)
    await found.of(crowd, plan.seconds, plan.interrupts_a_round)
    figures.keep(f"ended {size}", server.name, found.ended)
    figures.keep(f"first {size}", server.name, found.first)


async def _cleanup(plan: Plan, figures: Figures, crowd: Crowd) -> None:
    """Interrupts of turns whose cleanup takes 0.3 s; the floor has no cleanup."""
    server, size = crowd.server, len(crowd.clients)
    text = "cleanup" if server.name != FLOOR else "trickle"
    await crowd.start(text)
    pause = min(TURN_S, max(UNHURRIED_S, TURN_S * size / 100))
    found = Interrupts(text, pause)
    await found.of(crowd, plan.seconds, plan.cleanups_a_round)
    figures.keep(f"again {size}", server.name, found.again)


async def _flat_out(figures: Figures, crowd: Crowd) -> None:
    server, size = crowd.server, len(crowd.clients)
    used = server.usage.cpu_s
    each = FLAT_OUT_TOKENS // size
    await crowd.all_say(f"flat {each}")
    figures.note(f"flat out {size}", server.name, each * size / (server.usage.cpu_s - used))


async def _turns(figures: Figures, crowd: Crowd) -> None:
    """CPU time of a turn of one token, from its input to its end."""
    used = crowd.server.usage.cpu_s
    for _ in range(TURNS):
        await crowd.all_say("flat 1")
    figures.note("cpu per turn", crowd.server.name, (crowd.server.usage.cpu_s - used) / TURNS)


async def _endless(plan: Plan, figures: Figures, crowd: Crowd) -> None:
    """Interrupts of agents that never suspend."""
    server, size = crowd.server, len(crowd.clients)
    await crowd.start("endless")
    own, began = time.process_time(), time.perf_counter()
    pause = max(SHORTEST_S, TURN_S * size / 100)
    found = Interrupts("endless", pause)
    await found.of(crowd, plan.seconds, plan.interrupts_a_round)
    lasted = time.perf_counter() - began
    figures.keep(f"endless {size}", server.name, found.ended)
    figures.note(f"load endless {size}", server.name, (time.process_time() - own) / lasted)
