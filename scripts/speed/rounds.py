"""What is measured, floor and ours in turns, so that what else the machine does falls on both alike."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from .capacity import capacity
from .crowd import Crowd
from .figures import Figures
from .floor import TURN_S
from .plan import Plan
from .processes import FLOOR, LEAST, Served
from .table import number

FLAT_OUT_TOKENS = 400_000
TURNS = 1000
SETTLE_S = 0.5
SHORTEST_S = 0.02
"""So long does a turn run at least, where a few clients cut in more often."""
UNHURRIED_S = 0.8
"""The same where the cleanup takes 0.3 s. No interrupt comes while an earlier one is cleaned up: one
cleanup overlaps a running turn, and with a second one the turn would rightly wait (contract 5)."""
REST_S = 0.02
"""So long on average is a turn over before its client asks again, so that each is timed by itself."""

Tell = Callable[[str], None]


async def measure(servers: Sequence[Served], plan: Plan, figures: Figures, tell: Tell) -> None:
    """Run all rounds.

    Args:
        servers: The servers, which run.
        plan: How much.
        figures: Takes what comes out.
        tell: Is told what comes next.

    Raises:
        Broken: A server or a line failed.
    """
    for n in range(plan.rounds):
        # Who goes first changes, for what warms up or slows down in a round.
        for server in servers if n % 2 else list(reversed(servers)):
            about = f"round {n + 1} of {plan.rounds}"
            for size in plan.sessions:
                tell(f"{about}: {number(size)}, {server.name}")
                with no_garbage():
                    await _trickle(server, size, plan, figures)
                    if server.name != LEAST:
                        await _cleanup(server, size, plan, figures)
                server.check()
            if server.name == LEAST:
                continue
            tell(f"{about}: how many sessions, {server.name}")
            with no_garbage():
                await capacity(server, plan, figures)
            server.check()
            for size in plan.flat_out:
                tell(f"{about}: {number(size)} flat out, {server.name}")
                await _flat_out(server, size, figures)
            await _turns(server, figures)
            for size in plan.endless if server.name != FLOOR else ():
                tell(f"{about}: interrupts of {number(size)} flat out, {server.name}")
                with no_garbage():
                    await _endless(server, size, plan, figures)
            server.check()


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


async def _trickle(server: Served, size: int, plan: Plan, figures: Figures) -> None:
    """Tokens at a steady rate: processor time of the server alone, then interrupts at random."""
    async with Crowd(server, size) as crowd:
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
        await crowd.barge_in("trickle", pause, plan.seconds, plan.interrupts_a_round, REST_S)
        figures.keep(f"ended {size}", server.name, crowd.ended)
        figures.keep(f"first {size}", server.name, crowd.first)
    await asyncio.sleep(SETTLE_S)


async def _cleanup(server: Served, size: int, plan: Plan, figures: Figures) -> None:
    """The floor cleans nothing up; ours takes 0.3 s, and nobody is to wait for that."""
    async with Crowd(server, size) as crowd:
        text = "cleanup" if server.name != FLOOR else "trickle"
        await crowd.start(text)
        pause = min(TURN_S, max(UNHURRIED_S, TURN_S * size / 100))
        await crowd.barge_in(text, pause, plan.seconds, plan.cleanups)
        figures.keep(f"again {size}", server.name, crowd.again)
    await asyncio.sleep(SETTLE_S)


async def _flat_out(server: Served, size: int, figures: Figures) -> None:
    async with Crowd(server, size) as crowd:
        used = server.usage.cpu_s
        each = FLAT_OUT_TOKENS // size
        await crowd.all_say(f"flat {each}")
        figures.note(f"flat out {size}", server.name, each * size / (server.usage.cpu_s - used))


async def _turns(server: Served, figures: Figures) -> None:
    """What a turn of one token costs, from its input to its end."""
    async with Crowd(server, 1) as crowd:
        used = server.usage.cpu_s
        for _ in range(TURNS):
            await crowd.all_say("flat 1")
        figures.note("cpu per turn", server.name, (server.usage.cpu_s - used) / TURNS)


async def _endless(server: Served, size: int, plan: Plan, figures: Figures) -> None:
    """Interrupts of agents that never suspend."""
    async with Crowd(server, size) as crowd:
        await crowd.start("endless")
        own, began = time.process_time(), time.perf_counter()
        pause = max(SHORTEST_S, TURN_S * size / 100)
        await crowd.barge_in("endless", pause, plan.seconds, plan.interrupts_a_round)
        lasted = time.perf_counter() - began
        figures.keep(f"endless {size}", server.name, crowd.ended)
        figures.note(f"load endless {size}", server.name, (time.process_time() - own) / lasted)
