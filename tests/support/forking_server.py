"""Servers of one agent with a store that are started in milliseconds, to be killed hundreds of times.

async with forking("sqlite:///kept.db", folder) as servers:
    await servers.start()
    await servers.kill()

A process imports everything once and holds the listening socket; each server is a fork of it. So a client
that connects while no server lives waits in the queue of the socket.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from processes import environment
from waiting import WAIT_S


class Servers:
    """The servers, one at a time.

    Attributes:
        url: Where their sessions are.
        killed: Number of servers that were killed.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.url = url
        self.killed = 0
        self._process = process
        self._pid = 0

    async def start(self) -> None:
        """Start a server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"start\n")
        async with asyncio.timeout(3 * WAIT_S):
            self._pid = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        """End the server with SIGKILL, and wait for its end."""
        assert self._process.stdout is not None
        os.kill(self._pid, signal.SIGKILL)
        async with asyncio.timeout(3 * WAIT_S):
            ended = await self._process.stdout.readline()
        assert ended.split() == [b"ended", b"%d" % signal.SIGKILL], f"the server ended before: {ended!r}"
        self.killed, self._pid = self.killed + 1, 0

    def end(self) -> None:
        """End the server that runs, if any."""
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)


@asynccontextmanager
async def forking(store: str, folder: Path) -> AsyncIterator[Servers]:
    """Make servers in a folder, until the block ends.

    Args:
        store: The URL of their store.
        folder: Their folder; tools write `effects` there.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, store, str(listener.fileno()),
        cwd=folder, env=environment(), pass_fds=(listener.fileno(),),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/session"
    listener.close()
    servers = Servers(process, url)
    try:
        yield servers
    finally:
        servers.end()
        process.kill()
        await process.wait()


def main(store: str, descriptor: int) -> None:
    """Fork a server for each line, and report how it ended."""
    import uvicorn

    from bargein_protocol import ToolCall, ToolResult
    from bargein_server import Settings, Turn, create_app

    async def talk(turn: Turn) -> AsyncIterator[object]:
        words = turn.text.split()
        if words[0] == "history":
            yield json.dumps(turn.history.messages()[:-1])
        elif words[0] == "tool":
            call_id = turn.tools.claim()
            yield ToolCall(call_id=call_id, name="pay")
            await turn.tools.begin(call_id, "pay", {"for": turn.text})
            effects = os.open("effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.write(effects, f"{turn.text}\n".encode())
            os.close(effects)
            await asyncio.sleep(0.005)
            turn.tools.settle(ToolResult(call_id=call_id, status="completed", output="paid"))
            yield f"done with {turn.text}"
        else:
            for number in range(30 if words[0] == "long" else 2):
                yield f"{turn.text} {number}, "
                await asyncio.sleep(0.005)

    listener = socket.socket(fileno=descriptor)
    for _ in sys.stdin:
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_RDWR), sys.stdout.fileno())  # the pipe ends with the parent
            # A busy machine is no reason to answer before it is stored, as a slow disk would be.
            whole = Settings(max_history_turns=100_000, max_history_chars=100_000_000, store_wait_s=10.0)
            app = create_app(talk, store=store, settings=whole)  # type: ignore[arg-type]
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
            os._exit(0)
        print(pid, flush=True)
        print("ended", os.waitpid(pid, 0)[1], flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
