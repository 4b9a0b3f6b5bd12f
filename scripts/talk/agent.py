"""Agent of the measurements: long for "talk", short for all else."""

from __future__ import annotations

from collections.abc import AsyncIterator

from bargein_server import Turn

STORY = (
    "The river begins as a small stream in the mountains. It flows through a narrow valley between old "
    "forests. After a day on foot the valley opens, and the water becomes slow and wide. There are "
    "villages on both sides, with bridges of stone and of wood. Boats carry grain and salt to the coast. "
)


async def talker(turn: Turn) -> AsyncIterator[str]:
    """Give a long story, or a short answer."""
    if turn.text == "talk briefly":
        yield STORY.partition(". ")[0] + ". "
    elif turn.text == "talk":
        for word in (STORY * 2).split():
            yield f"{word} "
    else:
        yield "I see. "
