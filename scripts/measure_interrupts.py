"""Measure interrupts one by one, for the table of the example `analysis`.

    .venv/bin/python scripts/measure_interrupts.py [FILE]

Starts a server and lets 1, 10 and 50 clients interrupt its answers at random moments with both codecs. Writes
one row for each interrupt. Needs `scripts/setup dev`.
"""

from __future__ import annotations

import asyncio
import csv
import os
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from bargein_client import connect
from bargein_protocol import TextDelta
from bargein_server.agent import Output, Turn

HERE = Path(__file__).parent
FILE = HERE.parent / "server" / "bargein_server" / "examples" / "interrupts.csv"
INTERRUPTS = 150
"""Interrupts for each number of clients and each codec."""
HEADER = ["clients", "codec", "tokens", "first_token_ms", "interrupt_ms", "heard_chars"]

Row = list[Any]


async def counting(turn: Turn) -> AsyncIterator[Output]:
    """Count at the pace of a model, 50 tokens in a second."""
    for number in range(10_000):
        yield f"{number} "
        await asyncio.sleep(0.02)


async def interrupts(url: str, clients: int, codec: Literal["json", "msgpack"], count: int) -> list[Row]:
    """Let one client interrupt so many answers, and return a row for each."""
    rows: list[Row] = []
    async with connect(url, codec=codec) as session:
        for number in range(count):
            asked = perf_counter()
            turn = session.send(f"count, {number}")
            first_ms, tokens, wanted = 0.0, 0, random.randint(1, 40)
            async for event in turn:
                if isinstance(event, TextDelta):
                    tokens += 1
                    first_ms = first_ms or 1000 * (perf_counter() - asked)
                    if tokens == wanted:
                        break
            cut = perf_counter()
            await turn.interrupt()
            ended = await turn.ended()
            took_ms = 1000 * (perf_counter() - cut)
            heard = len(ended.heard.text or "")
            rows.append([clients, codec, tokens, f"{first_ms:.2f}", f"{took_ms:.2f}", heard])
    return rows


async def measure() -> list[Row]:
    """Run all combinations against one server."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bargein_server", "measure_interrupts:counting", "--port", "0",
        "--log-level", "warning",
        stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(HERE)},
    )  # fmt: skip
    rows: list[Row] = []
    codecs: tuple[Literal["json", "msgpack"], ...] = ("json", "msgpack")
    try:
        assert server.stdout is not None
        url = (await server.stdout.readline()).decode().split()[-1]
        for clients in (1, 10, 50):
            for codec in codecs:
                share = INTERRUPTS // clients
                found = await asyncio.gather(
                    *(interrupts(url, clients, codec, share) for _ in range(clients))
                )
                rows += [row for part in found for row in part]
    finally:
        server.terminate()
        await server.communicate()
    return rows


def main() -> None:
    """Measure and write the table."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    rows = asyncio.run(measure())
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out, lineterminator="\n").writerows([HEADER, *rows])
    print(f"{len(rows)} interrupts in {file}")


if __name__ == "__main__":
    main()
