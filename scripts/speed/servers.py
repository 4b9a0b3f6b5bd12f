"""The servers: the floor, which is as little as uvicorn can do, ours, and ours with its metrics on.

The floor knows no session, no turn and no fence. It sends one prepared frame again and again, and
answers a stop with another: its round trip is what the line itself costs.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn

from bargein_server import Output, Settings, Turn, create_app
from bargein_server.app import SESSION_PATH
from bargein_server.shell.listener import listening_socket
from bargein_server.shell.server import uvicorn_config
from loadgen.machine import Usage, usage_of

TOKEN = "word " * 12
RATE = 50
CLEANUP_S = 0.3
TOKEN_FRAME = '{"type":"text.delta","seq":100000,"turn_id":"t_8432156e_1","text":"' + TOKEN + '"}'
END_FRAME = '{"type":"turn.ended","seq":100001,"turn_id":"t_8432156e_1","status":"interrupted"}'
FLOOR, OURS, WATCHED = NAMES = "floor", "bargein", "watched"


async def floor(scope: Any, receive: Any, send: Any) -> None:
    """Stream at `trickle` until `stop`, and send N frames at `flat N`."""
    await receive()
    await send({"type": "websocket.accept"})
    stream: asyncio.Task[None] | None = None
    while (message := await receive())["type"] == "websocket.receive":
        command, _, count = message["text"].partition(" ")
        if command == "flat":
            for n in range(int(count)):
                await send({"type": "websocket.send", "text": TOKEN_FRAME})
                if n % 32 == 31:
                    await asyncio.sleep(0)
        elif command == "trickle":
            stream = asyncio.create_task(_trickle(send))
            continue
        elif stream is not None:
            stream.cancel()
        await send({"type": "websocket.send", "text": END_FRAME})
    if stream is not None:
        stream.cancel()


async def _trickle(send: Any) -> None:
    while True:
        await send({"type": "websocket.send", "text": TOKEN_FRAME})
        await asyncio.sleep(1 / RATE)


async def agent(turn: Turn) -> AsyncIterator[Output]:
    """Yield `flat N` tokens or `endless` many without suspending, or one every 20 ms.

    The end of a `cleanup` is slow.
    """
    command, _, count = turn.text.partition(" ")
    try:
        if command == "flat":
            for _ in range(int(count)):
                yield TOKEN
            return
        while True:
            yield TOKEN
            if command != "endless":
                await asyncio.sleep(1 / RATE)
    finally:
        if command == "cleanup":
            await asyncio.sleep(CLEANUP_S)


def serve(which: str, port: int) -> None:
    """Run one of them until it is terminated."""
    pin(0)
    if which == FLOOR:
        uvicorn.run(floor, port=port, log_level="warning", ws_per_message_deflate=False, lifespan="off")
        return
    # One of the loads is a single client that never pauses, and all come from one address.
    most = 20_000
    limits = Settings(
        messages_per_s=10**6,
        sessions=most,
        connections=most,
        connections_per_address=most,
        turns=most,
        metrics=which == WATCHED,
    )
    config = uvicorn_config(create_app(agent, limits), limits, "127.0.0.1", port, "warning")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run([listening_socket("127.0.0.1", port, limits.stalled_s)])


class Served:
    """A server that runs.

    Attributes:
        name: One of `NAMES`.
        url: Where its socket is.
    """

    def __init__(self, name: str, port: int, pid: int) -> None:
        self.name = name
        self.port = port
        self.url = f"ws://127.0.0.1:{port}{'/' if name == FLOOR else SESSION_PATH}"
        self._pid = pid

    @property
    def usage(self) -> Usage:
        """What it has used up to now."""
        return usage_of(self._pid)


@contextmanager
def served(script: Path) -> Iterator[list[Served]]:
    """Start all, on a core of their own where there are two, and stop them at the end.

    Args:
        script: Calls `serve` for `--serve NAME --port PORT`.
    """
    with ExitStack() as stack:
        servers = []
        for name in NAMES:
            with listening_socket("127.0.0.1", 0, 1.0) as probe:
                port = probe.getsockname()[1]
            process = subprocess.Popen([sys.executable, script, "--serve", name, "--port", str(port)])
            stack.callback(process.wait)
            stack.callback(process.terminate)
            servers.append(Served(name, port, process.pid))
        yield servers


async def listening(port: int) -> None:
    """Wait until a server accepts connections."""
    async with asyncio.timeout(30):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


def pin(core: int) -> None:
    """Run on one core, where the system can do that and has two."""
    if hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1:
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
