"""What is measured, in stretches of a few seconds that the servers have in turns.

A virtual machine does not have the same speed for a minute. So all servers have their clients connected,
one of them talks at a time, and each round holds a stretch of each: what the machine does in a round falls
on all alike, and a ratio is one of a round.
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
from .processes import FLOOR, LEAST, Served
from .table import number

FLAT_OUT_TOKENS = 100_000
TURNS = 200
SETTLE_S = 0.2
SHORTEST_S = 0.02
"""So long does a turn run at least, where a few clients cut in more often."""
UNHURRIED_S = 0.8
"""The same where the cleanup takes 0.3 s. No interrupt comes while an earlier one is cleaned up: one
cleanup overlaps a running turn, and with a second one the turn would rightly wait (contract 5)."""
REST_S = 0.02
"""So long on average is a turn over before its client asks again, so that each is timed by itself."""

Tell = Callable[[str], None]
Stretch = Callable[[Crowd], Awaitable[None]]
"""Measures one server, with clients that are connected and silent."""


async def measure(servers: Sequence[Served], plan: Plan, figures: Figures, tell: Tell) -> None:
    """Run everything.

    Args:
        servers: The servers, which run.
        plan: How much.
        figures: Takes what comes out.
        tell: Is told what comes next.

    Raises:
        Broken: A server or a line failed.
    """
    turn = partial(_in_turns, tell=tell)
    complete = [server for server in servers if server.name != LEAST]
    ours = [server for server in complete if server.name != FLOOR]
    for size in plan.sessions:
        trickle, cleanup = partial(_trickle, plan, figures), partial(_cleanup, plan, figures)
        await turn(f"{number(size)}", servers, size, trickle, plan.rounds)
        await turn(f"{number(size)}, slow cleanup", complete, size, cleanup, plan.rounds)
    await turn("how many sessions", complete, 0, Capacity(plan, figures).look, plan.looks)
    for size in plan.flat_out:
        await turn(f"{number(size)} flat out", complete, size, partial(_flat_out, figures), plan.rounds)
    await turn("turns of one token", complete, 1, partial(_turns, figures), plan.rounds)
    for size in plan.endless:
        endless = partial(_endless, plan, figures)
        await turn(f"interrupts of {number(size)} flat out", ours, size, endless, plan.rounds)


async def _in_turns(
    what: str, servers: Sequence[Served], size: int, stretch: Stretch, rounds: int, tell: Tell
) -> None:
    """Let each server have a stretch in each round, in an order that chance makes."""
    async with AsyncExitStack() as stack:
        crowds = [await stack.enter_async_context(Crowd(server, size)) for server in servers]
        for n in range(rounds):
            tell(f"{what}: round {n + 1} of {rounds}")
            for crowd in Random(n).sample(crowds, len(crowds)):
                with no_garbage():
                    await stretch(crowd)
                await crowd.hush()
                crowd.server.check()
                await asyncio.sleep(SETTLE_S)


@contextmanager
def no_garbage() -> Iterator[None]:
    """Let this process collect no garbage meanwhile: its own pauses would be blamed on the server."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def _trickle(plan: Plan, figures: Figures, crowd: Crowd) -> None:
    """Tokens at a steady rate: processor time of the server alone, then interrupts at random."""
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
    """The floor cleans nothing up; ours takes 0.3 s, and nobody is to wait for that."""
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
    """What a turn of one token costs, from its input to its end."""
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
