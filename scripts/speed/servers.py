"""Servers: floor, bargein, bargein with metrics, and the least possible."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic

import uvicorn

from bargein_server import Output, Settings, Turn, create_app
from bargein_server.serving.gc_tuning import tune_gc
from bargein_server.serving.server import listening_socket, uvicorn_config

from .floor import RATE, TOKEN, floor
from .least import serve_least
from .processes import FLOOR, LEAST, WATCHED, allow_files, pin

CLEANUP_S = 0.3


async def agent(turn: Turn) -> AsyncIterator[Output]:
    """Yield tokens: `flat N` or endless without suspending, or one per 20 ms.

    Like a model, it does not slow down when the server does. The end of a `cleanup` is slow.
    """
    command, _, count = turn.text.partition(" ")
    due = monotonic()
    try:
        if command == "flat":
            for _ in range(int(count)):
                yield TOKEN
            return
        while True:
            yield TOKEN
            if command != "endless":
                due += 1 / RATE
                await asyncio.sleep(due - monotonic())
    finally:
        if command == "cleanup":
            await asyncio.sleep(CLEANUP_S)


def serve(which: str, port: int, core: int | None) -> None:
    """Run one of them until it is terminated."""
    pin(core)
    allow_files()
    if which == FLOOR:
        uvicorn.run(floor, port=port, log_level="warning", ws_per_message_deflate=False, lifespan="off")
        return
    if which == LEAST:
        with suppress(KeyboardInterrupt):
            serve_least(port)
        return
    # One of the loads is a single client that never pauses, and all come from one address.
    most = 20_000
    limits = Settings(
        max_messages_per_s=10**6,
        max_sessions=most,
        max_connections=most,
        max_connections_per_address=most,
        max_running_turns=most,
        max_client_share=1,
        metrics=which == WATCHED,
    )
    config = uvicorn_config(create_app(agent, limits), limits, "127.0.0.1", port, "warning")
    tune_gc()
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run([listening_socket("127.0.0.1", port, limits.stalled_s)])
