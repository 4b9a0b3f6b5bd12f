"""`curl -N`: tokens as they come, with a tool that everybody has."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bargein_server import Output, Turn
from live_server import Serving, WireKind, serving
from waiting import WAIT_S

CURL = shutil.which("curl") or "curl"


@asynccontextmanager
async def curl(server: Serving, path: str, *arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """Run curl without its buffer; yields what it prints."""
    process = await asyncio.create_subprocess_exec(
        CURL, "-sN", f"http://127.0.0.1:{server.port}{path}", *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_with(out: asyncio.StreamReader, text: str) -> str:
    """Return the next line that holds a text."""
    async with asyncio.timeout(WAIT_S):
        while text not in (line := (await out.readline()).decode()):
            assert line, f"the end came before {text}"
    return line


async def test_each_token_is_shown_before_the_next_is_made(wire: WireKind) -> None:
    """The agent makes the next word only when curl has printed the one before."""
    seen = asyncio.Semaphore(0)

    async def careful(turn: Turn) -> AsyncIterator[Output]:
        for number in range(20):
            yield f"word{number} "
            await seen.acquire()

    async with (
        serving(careful, wire) as server,
        curl(server, "/v1/turns", "--json", '{"text": "hello"}') as out,
    ):
        assert await line_with(out, "event: session.opened")
        for number in range(20):
            line = await line_with(out, f"word{number} ")
            assert line.startswith('data: {"type":"text.delta"')
            seen.release()
        assert await line_with(out, "event: turn.ended")
        async with asyncio.timeout(WAIT_S):
            await out.read()
