"""Panel of three specialists in parallel, and a merge of their verdicts.

    bargein-server bargein_server.examples.specialists:panel

It needs no key. Each specialist could be an `OpenAIAgent` with instructions of its own, and the merge another
one whose input is their answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from bargein_server.agent import Agent, Output, Turn

from ..agents.parallel import Parallel

SECONDS_PER_WORD = 0.08


def specialist(opinion: str, verdict: str) -> Agent:
    """Return an agent that yields thoughts, an opinion and a verdict."""

    async def answer(turn: Turn) -> AsyncGenerator[Output, None]:
        yield turn.status("Thinking")
        yield turn.thought(f"From my point of view, \u201c{turn.text[:80]}\u201d has one answer. ")
        for word in opinion.split():
            await asyncio.sleep(SECONDS_PER_WORD)
            yield word + " "
        yield turn.data("verdict", verdict)

    return answer


SPECIALISTS = {
    "engineer": specialist("It can be built in a week, if nobody changes their mind.", "yes"),
    "lawyer": specialist("It depends, and I would like to see that in writing first.", "perhaps"),
    "accountant": specialist("It costs twice of what you think.", "no"),
}


async def panel(turn: Turn) -> AsyncGenerator[Output, None]:
    """Ask all specialists at the same time; go on without one that fails."""
    yield turn.status("Asking three specialists", "people")
    team = Parallel(turn, SPECIALISTS, on_error="skip")
    async with aclosing(team.outputs()) as outputs:
        async for output in outputs:
            yield output
    yield turn.status("Merging", "merge")
    for source, branch in team.branches.items():
        yield f"The {source} says {branch.data.get('verdict', 'nothing')}. "
    yield "So: ask again tomorrow."
