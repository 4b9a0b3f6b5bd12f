"""Three specialists side by side, and a merge: `bargein-server bargein_server.examples.specialists:panel`.

It needs no key. Each of them could be an `OpenAIAgent` with instructions of its own, and the merge
another one that is told what they said.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from bargein_server.agent import Agent, Output, Turn

from ..agents.parallel import Parallel

SECONDS_PER_WORD = 0.08


def specialist(opinion: str, verdict: str) -> Agent:
    """Return an agent that thinks aloud and gives an opinion."""

    async def speak(turn: Turn) -> AsyncGenerator[Output, None]:
        yield turn.status("Thinking")
        yield turn.thought(f"From my point of view, \u201c{turn.text[:80]}\u201d has one answer. ")
        for word in opinion.split():
            await asyncio.sleep(SECONDS_PER_WORD)
            yield word + " "
        yield turn.data("verdict", verdict)

    return speak


SPECIALISTS = {
    "engineer": specialist("It can be built in a week, if nobody changes their mind.", "yes"),
    "lawyer": specialist("It depends, and I would like to see that in writing first.", "perhaps"),
    "accountant": specialist("It costs twice of what you think.", "no"),
}


async def panel(turn: Turn) -> AsyncGenerator[Output, None]:
    """Ask all of them at once; go on without one that fails."""
    yield turn.status("Asking three specialists", "people")
    team = Parallel(turn, SPECIALISTS, on_error="skip")
    async with aclosing(team.outputs()) as outputs:
        async for output in outputs:
            yield output
    yield turn.status("Merging", "merge")
    for source, branch in team.branches.items():
        yield f"The {source} says {branch.data.get('verdict', 'nothing')}. "
    yield "So: ask again tomorrow."
