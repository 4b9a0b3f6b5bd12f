"""The agent that the files of this folder serve; put yours in its place."""

import asyncio
from collections.abc import AsyncIterator

from bargein_server import Turn


async def agent(turn: Turn) -> AsyncIterator[str]:
    """Answer with the user's words, slowly enough to be interrupted."""
    number = len(turn.history.messages()) // 2 + 1
    for word in f"Message {number} was: {turn.text}".split():
        yield f"{word} "
        await asyncio.sleep(0.1)
