"""Agent for load tests, with output of a given size and rate.

    cd scripts && bargein-server loadgen.agent:agent

An input such as "100 tokens at 50/s" sets both; other inputs get 40 tokens at 20 per second. The times are
computed from the start, so that a late token does not delay later ones.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from bargein_server import Output, Turn

TOKEN = "word " * 12
_ASKED = re.compile(r"(\d+) tokens at (\d+)/s")


async def agent(turn: Turn) -> AsyncIterator[Output]:
    """Yield tokens at a steady rate."""
    asked = _ASKED.search(turn.text)
    count, rate = (int(asked[1]), int(asked[2])) if asked else (40, 20)
    loop = asyncio.get_running_loop()
    start = loop.time()
    for n in range(count):
        await asyncio.sleep(start + n / max(rate, 1) - loop.time())
        yield TOKEN
