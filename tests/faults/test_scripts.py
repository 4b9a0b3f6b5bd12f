"""What the measuring scripts measure keeps its bounds; the figures of README.md are theirs."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from processes import ROOT, environment

MEBIBYTE = 1024 * 1024


async def measured(script: str, *arguments: str) -> Any:
    """Run a script of `scripts/` and return its JSON."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "scripts" / script), "--json", *arguments,
        env=environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(100):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, error.decode()
    return json.loads(out)


async def test_a_line_of_one_megabit_is_silent_soon_after_an_interrupt() -> None:
    """At most 0.15 s with 8 KiB in flight; and without the cap too nothing follows the end."""
    seen = await measured("slow_line.py", "--rounds", "3")
    assert [row["after"] for rounds in seen.values() for row in rounds] == [0] * 6
    capped = seen["max_in_flight_bytes = 8192"]
    assert sorted(row["stale_s"] for row in capped)[1] <= 0.15, capped
    assert min(row["rate"] for row in capped) > 400_000


async def test_a_client_that_stands_still_is_freed_costs_little_and_comes_back() -> None:
    """Soon after the bound, less than 1 MiB until then, and its session is resumed."""
    seen = await measured("stalled_client.py", "--clients", "8", "--stalled-s", "2")
    assert seen["freed_s"] <= 6
    assert seen["bytes"] <= MEBIBYTE
    assert seen["resumed"] == 8
