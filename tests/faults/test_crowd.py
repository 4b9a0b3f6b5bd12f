"""A thousand sessions at once, interrupted at random: nothing stale, nothing hung, nothing left."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bargein_server import Output, Turn
from live_server import Serving, serving
from processes import ROOT, environment
from waiting import until

SESSIONS, TURNS = 1000, 3
MEBIBYTE = 1024 * 1024


async def speaks(turn: Turn) -> AsyncIterator[Output]:
    """Says a word ten times a second for half a second."""
    for number in range(5):
        yield f"{number} "
        await asyncio.sleep(0.1)


async def crowd(server: Serving, seed: int) -> dict[str, int]:
    """Let the crowd talk; returns what it saw."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "tests" / "support" / "crowd.py"), server.url, str(SESSIONS), str(TURNS),
        str(seed), env=environment(), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(100):
        out, _ = await process.communicate()
    assert process.returncode == 0
    seen: dict[str, int] = json.loads(out)
    return seen


def resident() -> int:
    """Return this process's resident memory in bytes."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_thousand_sessions_with_random_interrupts() -> None:
    """Every turn ends once, nothing comes after, and the server is back where it was."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    limits: dict[str, Any] = {
        "max_connections_per_address": 2 * SESSIONS,
        "max_running_turns": SESSIONS,
        "max_client_share": 1,
    }
    async with serving(speaks, **limits) as server:
        tasks = len(asyncio.all_tasks())
        levels = []
        for seed in range(3):
            seen = await crowd(server, seed)
            assert (seen["hung"], seen["stale"], seen["twice"]) == (0, 0, 0)
            assert seen["ended"] == SESSIONS * TURNS
            assert seen["interrupted"] > SESSIONS
            assert seen["completed"] > 0
            await until(lambda: len(server.sessions) == 0, "the sessions' end")
            await until(lambda: len(asyncio.all_tasks()) == tasks, "the tasks' end")
            levels.append(resident())
        # The first crowd leaves the allocator's arenas behind; what leaks would grow with each.
        assert levels[2] - levels[1] < 4 * MEBIBYTE, levels
