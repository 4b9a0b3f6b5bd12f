"""Check that a turn is used on the thread of its event loop."""

from __future__ import annotations

import asyncio


def check_loop(loop: asyncio.AbstractEventLoop, name: str) -> None:
    """Check that the running event loop is that of the turn.

    A session has no locks: from another thread, events would be numbered twice and out of order.

    Args:
        loop: Event loop of the turn.
        name: The method that was called, for the message.

    Raises:
        RuntimeError: It is called from another thread, or from another event loop.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is not loop:
        raise RuntimeError(
            f"{name} was called outside the event loop of its turn, such as from a thread: send output from "
            "threads with bargein_server.streams.from_callbacks, and call anything else with "
            "loop.call_soon_threadsafe or asyncio.run_coroutine_threadsafe"
        )
