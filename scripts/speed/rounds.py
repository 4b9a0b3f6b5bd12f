"""What is measured, floor and ours in turns, so that what else the machine does falls on both alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from msgspec import Struct

from .crowd import Crowd
from .servers import FLOOR, Served

FLAT_OUT_TOKENS = 400_000
TURNS = 1000
SETTLE_S = 0.5


class Plan(Struct, frozen=True, kw_only=True):
    """How much is measured.

    Args:
        rounds: How often everything but memory is.
        seconds: How long each stretch of tokens that trickle is watched.
        sessions: In crowds of these sizes.
        flat_out: Sessions that get tokens as fast as they can, for each stretch of it.
    """

    rounds: int = 3
    seconds: float = 5.0
    sessions: Sequence[int] = (1, 100, 500)
    flat_out: Sequence[int] = (1, 200)


Figures = dict[tuple[str, str], list[float]]
"""Values of all rounds by what was measured and of which server. Times are in seconds."""


async def measure(servers: Sequence[Served], plan: Plan, tell: Callable[[str], None]) -> Figures:
    """Run all rounds.

    Args:
        servers: The servers, which run.
        plan: How much.
        tell: Is told what comes next.
    """
    figures: Figures = {}
    for server in servers:
        tell(f"memory, {server.name}")
        await _memory(server, max(plan.sessions), plan, figures)
    for n in range(plan.rounds):
        # Who goes first changes, for what warms up or slows down in a round.
        for server in servers if n % 2 else list(reversed(servers)):
            for size in plan.sessions:
                tell(f"round {n + 1} of {plan.rounds}: {size} sessions, {server.name}")
                await _trickle(server, size, plan, figures)
            for size in plan.flat_out:
                tell(f"round {n + 1} of {plan.rounds}: {size} sessions flat out, {server.name}")
                await _flat_out(server, size, figures)
            await _turns(server, figures)
            if server.name != FLOOR:
                tell(f"round {n + 1} of {plan.rounds}: interrupts flat out, {server.name}")
                await _endless(server, plan, figures)
    return figures


def _note(figures: Figures, what: str, server: Served, value: float) -> None:
    figures.setdefault((what, server.name), []).append(value)


async def _memory(server: Served, size: int, plan: Plan, figures: Figures) -> None:
    before = server.usage.rss_bytes
    async with Crowd(server, size) as crowd:
        await asyncio.sleep(SETTLE_S)
        _note(figures, "memory idle", server, (server.usage.rss_bytes - before) / size)
        await crowd.start("trickle")
        await asyncio.sleep(plan.seconds)
        _note(figures, "memory streaming", server, (server.usage.rss_bytes - before) / size)
    await asyncio.sleep(SETTLE_S)


async def _trickle(server: Served, size: int, plan: Plan, figures: Figures) -> None:
    """Tokens at a steady rate: processor time of the server alone, then interrupts at random."""
    async with Crowd(server, size) as crowd:
        await crowd.start("trickle")
        tokens, used = crowd.tokens, server.usage.cpu_s
        own = time.process_time()
        await asyncio.sleep(plan.seconds)
        cpu, came = server.usage.cpu_s - used, crowd.tokens - tokens
        _note(figures, f"cpu per token {size}", server, cpu / came)
        _note(figures, f"utilisation {size}", server, cpu / plan.seconds)
        _note(figures, f"load {size}", server, (time.process_time() - own) / plan.seconds)
        await crowd.barge_in("trickle", plan.seconds)
        for what, times in (("ended", crowd.ended), ("first", crowd.first)):
            _note(figures, f"{what} p50 {size}", server, times.quantile(0.5))
            _note(figures, f"{what} p99 {size}", server, times.quantile(0.99))
    async with Crowd(server, size) as crowd:
        # The floor cleans nothing up; ours takes 0.3 s, and nobody is to wait for that.
        text = "cleanup" if server.name != FLOOR else "trickle"
        await crowd.start(text)
        await crowd.barge_in(text, plan.seconds)
        _note(figures, f"again p50 {size}", server, crowd.again.quantile(0.5))
    await asyncio.sleep(SETTLE_S)


async def _flat_out(server: Served, size: int, figures: Figures) -> None:
    async with Crowd(server, size) as crowd:
        used = server.usage.cpu_s
        each = FLAT_OUT_TOKENS // size
        await crowd.all_say(f"flat {each}")
        _note(figures, f"flat out {size}", server, each * size / (server.usage.cpu_s - used))


async def _turns(server: Served, figures: Figures) -> None:
    """What a turn of one token costs, from its input to its end."""
    async with Crowd(server, 1) as crowd:
        used = server.usage.cpu_s
        for _ in range(TURNS):
            await crowd.all_say("flat 1")
        _note(figures, "cpu per turn", server, (server.usage.cpu_s - used) / TURNS)


async def _endless(server: Served, plan: Plan, figures: Figures) -> None:
    """Interrupts of an agent that never suspends."""
    async with Crowd(server, 1) as crowd:
        await crowd.start("endless")
        await crowd.barge_in("endless", plan.seconds)
        _note(figures, "endless p50", server, crowd.ended.quantile(0.5))
        _note(figures, "endless p99", server, crowd.ended.quantile(0.99))
