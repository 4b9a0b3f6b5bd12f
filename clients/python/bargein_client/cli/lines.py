"""Lines of standard input."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import suppress


def read_lines() -> asyncio.Queue[str | None]:
    """Read standard input in a thread; None marks the end.

    The thread reads the file descriptor directly, because a thread waiting in `sys.stdin` holds a lock
    that the interpreter needs at exit. The event loop can read pipes, but files and terminals not on
    every platform.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    def put(line: str | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, so the line is not needed
            loop.call_soon_threadsafe(queue.put_nowait, line)

    def read() -> None:
        rest = b""
        while data := os.read(sys.stdin.fileno(), 65_536):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                put(line.decode(errors="replace"))
        if rest:
            put(rest.decode(errors="replace"))
        put(None)

    threading.Thread(target=read, name="bargein-stdin", daemon=True).start()
    return queue
