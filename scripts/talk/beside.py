"""Interrupts of text sessions, alone and beside sessions with speech.

python -m talk.beside URL SESSIONS      listen from many callers until the standard input ends
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from loadgen.options import Options
from loadgen.run import run

from .caller import Format, calling
from .measures import Figures

LISTENERS = 20
_ROUNDS, _SECONDS = 4, 15.0
_FOLDER = Path(__file__).parent.parent


@asynccontextmanager
async def listeners(url: str) -> AsyncIterator[None]:
    """Run callers whose microphones are on, in a process of their own."""
    command = [sys.executable, "-m", "talk.beside", url, str(LISTENERS)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, cwd=_FOLDER)
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"listening\n", "the callers did not come"
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def beside(url: str) -> Figures:
    """Return p99 in ms, alone and beside listeners in turn, and their ratio."""
    alone, accompanied = list[float](), list[float]()
    for _ in range(_ROUNDS):
        alone.append(await _interrupt_ms(url))
        async with listeners(url):
            accompanied.append(await _interrupt_ms(url))
    ratio = sorted(b / a for a, b in zip(alone, accompanied, strict=True))[_ROUNDS // 2]
    return {"alone: p99": alone, f"beside {LISTENERS} listeners: p99": accompanied, "ratio of p99": [ratio]}


async def _interrupt_ms(url: str) -> float:
    options = Options(
        url=url, sessions=20, ramp_s=1.0, duration_s=_SECONDS, turn_every_s=1.0, barge_in=1.0, barge_in_s=0.8
    )
    result, _ = await run(options, io.StringIO())
    return float(result["times"]["interrupt"]["p99_ms"])


async def _listen(url: str, sessions: int) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for number in range(sessions):
            await stack.enter_async_context(calling(url, Format(), number))
        print("listening", flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_listen(sys.argv[1], int(sys.argv[2])))
