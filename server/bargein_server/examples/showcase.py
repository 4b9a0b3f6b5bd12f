"""Scenes of the demo agent: a draft, a question, a team, formatted text."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Literal

from bargein_protocol import (
    StepEnded,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolDecision,
    ToolOutput,
    ToolResult,
    ToolRunning,
)

from ..agent import Agent, Output, Turn
from ..agents.parallel import Parallel

WORDS_PER_SECOND = 18.0
ANSWER_S = 120.0
"""Seconds that the user has for a draft or a question."""

FORMATTED = """\
## What an answer may look like

A paragraph with *emphasis*, **weight**, `code` and a [link](https://www.rfc-editor.org/rfc/rfc6455).

1. First the fence closes,
2. then the client is notified,
3. and only then does the agent clean up.

| outcome | when |
|---|---|
| `interrupted` | this interrupt ended the turn |
| `deferred` | the agent is in a protected section |

```python
async def agent(turn):
    yield turn.status("Thinking")
    async for word in model(turn.history.messages()):
        yield word          # cut me off anywhere
```

> Every answer may be interrupted.
"""

DRAFT = {
    "to": "keeper@lighthouse.example",
    "subject": "Which way to the harbour?",
    "body": (
        "Dear keeper,\n\nthank you for stopping in the middle of a word yesterday. Could you tell us "
        "once more, and briefly, which way it is to the harbour?\n\nWe will be near your rocks again on "
        "Thursday, and the captain does not like to ask.\n\nKind regards,\nthe girl in the small boat"
    ),
}


async def spoken(text: str) -> AsyncIterator[str]:
    """Yield a text word by word, as fast as a model would."""
    for word in text.split(" "):
        yield word + " "
        await asyncio.sleep(random.uniform(0.5, 1.5) / WORDS_PER_SECOND)


async def draft(turn: Turn) -> AsyncGenerator[Output, None]:
    """Write an e-mail as the arguments of a client-side tool call.

    The page lets the user edit it there.
    """
    call_id = turn.tools.claim()
    yield turn.status("Writing a draft", "pencil")
    yield ToolCall(call_id=call_id, name="draft_email")
    written = json.dumps(DRAFT)
    for start in range(0, len(written), 6):
        yield ToolCallDelta(call_id=call_id, arguments=written[start : start + 6])
        await asyncio.sleep(0.25 / WORDS_PER_SECOND)
    answer = turn.tools.expect(call_id, ToolOutput)
    await turn.tools.begin(call_id, "draft_email", dict(DRAFT), source=turn.source)
    yield ToolRunning(call_id=call_id, arguments=dict(DRAFT), runs_in="client")
    try:
        async with asyncio.timeout(ANSWER_S):
            answered = await answer
    except TimeoutError:
        answered = ToolOutput(call_id=call_id, error="no answer in time")
    finally:
        answer.cancel()
    status: Literal["completed", "failed"] = "completed" if answered.error is None else "failed"
    result = ToolResult(call_id=call_id, output=answered.output, error=answered.error, status=status)
    turn.tools.settle(result)
    yield result
    body = answered.output.get("body") if isinstance(answered.output, dict) else None
    if isinstance(body, str):
        text = f"Thank you. I keep your draft of {len(body.split())} words; this demo sends no mail."
    else:
        text = "I let the draft go."
    async for word in spoken(text):
        yield word


async def booking(turn: Turn) -> AsyncGenerator[Output, None]:
    """Ask for a decision before a booking."""
    call_id = turn.tools.claim()
    arguments = {"place": "a seat in the small boat", "day": "Thursday", "price": "3 shells"}
    yield ToolCall(call_id=call_id, name="book_seat")
    yield ToolCallDelta(call_id=call_id, arguments=json.dumps(arguments))
    decision = turn.tools.expect(call_id, ToolDecision)
    yield ToolConfirm(call_id=call_id, arguments=dict(arguments))
    try:
        async with asyncio.timeout(ANSWER_S):
            allowed = (await decision).allow
    except TimeoutError:
        allowed = False
    finally:
        decision.cancel()
    if allowed:
        await turn.tools.begin(call_id, "book_seat", dict(arguments), source=turn.source)
        yield ToolRunning(call_id=call_id, arguments=dict(arguments))
        for part in range(1, 11):
            yield turn.progress(part, total=10, label="rowing")
            await asyncio.sleep(0.1)
        result = ToolResult(
            call_id=call_id, output={"booking": "BOAT-3"}, status="completed", duration_ms=1000
        )
        turn.tools.settle(result)
    else:
        result = ToolResult(call_id=call_id, error="the user did not allow it", status="cancelled")
    yield result
    text = "Your seat is booked, number BOAT-3." if allowed else "Then I book nothing."
    async for word in spoken(text):
        yield word


async def team(turn: Turn) -> AsyncGenerator[Output, None]:
    """Run three agents in parallel, each in a lane of its own."""
    yield turn.status("Three colleagues are looking at it", "team")
    colleagues = Parallel(
        turn,
        {
            "navigator": _colleague(
                "the chart", "Keep the lighthouse on your left, then follow the gulls.", 8
            ),
            "cook": _colleague("the pantry", "There is soup for three days, and his mother's recipe.", 5),
            "sceptic": _colleague("the plan", "Nobody asked the sea. I would ask the sea.", 11),
        },
    )
    async with aclosing(colleagues.outputs()) as outputs:
        async for output in outputs:
            yield output
    yield StepEnded(index=0, kind="team")
    async for word in spoken("All three have answered: go on Thursday, take soup, and ask the sea first."):
        yield word


def _colleague(thing: str, verdict: str, steps: int) -> Agent:
    async def look(turn: Turn) -> AsyncIterator[Output]:
        yield turn.status(f"Reading {thing}", "search")
        for step in range(1, steps + 1):
            await asyncio.sleep(0.15)
            yield turn.progress(step, total=steps, label=thing)
        yield turn.thought(f"So much for {thing}. ")
        async for word in spoken(verdict):
            yield word

    return look
