"""One agent for the tests of all doors; the input says what it does.

async with serving(play, doors=["chat"]) as server: …
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from bargein_protocol import (
    Data,
    Progress,
    Status,
    StepEnded,
    TextDelta,
    Thought,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolDecision,
    ToolOutput,
    ToolResult,
    ToolRunning,
)
from bargein_server import Output, Turn, TurnFailed


async def play(turn: Turn) -> AsyncIterator[Output]:
    """Do what the first word of the input says; else repeat the input."""
    scene = SCENES.get(turn.text.partition(" ")[0])
    if scene is None:
        yield "You said "
        yield f"{turn.text}."
        turn.add_usage(input_tokens=7, output_tokens=3)
    else:
        async for output in scene(turn):
            yield output


async def count(turn: Turn) -> AsyncIterator[Output]:
    """Count until it is interrupted."""
    n = 0
    while True:
        n += 1
        yield f"{n} "
        await asyncio.sleep(0.01)


async def recall(turn: Turn) -> AsyncIterator[Output]:
    """Answer with the history as JSON."""
    yield json.dumps(turn.history.messages()[:-1])


async def brief(turn: Turn) -> AsyncIterator[Output]:
    """Answer with what the client told the agent beside the text."""
    yield json.dumps(turn.input.metadata)


async def look(turn: Turn) -> AsyncIterator[Output]:
    """Think, use a tool of the server, report, and answer."""
    yield Thought(text="I should ")
    yield Thought(text="look.")
    yield "Let me look. "
    call_id = turn.tools.claim("look-1")
    yield ToolCall(call_id=call_id, name="look")
    yield ToolCallDelta(call_id=call_id, arguments='{"at":')
    yield ToolCallDelta(call_id=call_id, arguments='"sky"}')
    await turn.tools.begin(call_id, "look", {"at": "sky"})
    yield ToolRunning(call_id=call_id, arguments={"at": "sky"})
    yield Status(message="looking", icon="eye")
    yield Progress(value=1, total=2, unit="stars")
    result = ToolResult(call_id=call_id, output={"colour": "blue"}, status="completed")
    turn.tools.settle(result)
    yield result
    yield StepEnded(index=0, kind="model")
    yield Data(name="picture", value={"url": "sky.png"})
    yield TextDelta(source="critic", text="Too short.")
    yield "It is blue."


async def buy(turn: Turn) -> AsyncIterator[Output]:
    """Ask for the user's consent, then buy."""
    yield "May I? "
    call_id = turn.tools.claim("")
    yield ToolCall(call_id=call_id, name="buy")
    yield ToolCallDelta(call_id=call_id, arguments='{"what":"tea"}')
    decision = turn.tools.expect(call_id, ToolDecision)
    yield ToolConfirm(call_id=call_id, arguments={"what": "tea"})
    allowed = (await decision).allow
    if allowed:
        await turn.tools.begin(call_id, "buy", {"what": "tea"})
        yield ToolRunning(call_id=call_id, arguments={"what": "tea"})
        result = ToolResult(call_id=call_id, output="bought", status="completed")
    else:
        result = ToolResult(call_id=call_id, error="not allowed by the user", status="failed")
    turn.tools.settle(result)
    yield result
    yield "Done." if allowed else "I leave it."


async def locate(turn: Turn) -> AsyncIterator[Output]:
    """Use a tool of the client."""
    yield "Where are you? "
    call_id = turn.tools.claim("")
    yield ToolCall(call_id=call_id, name="locate")
    given = turn.tools.expect(call_id, ToolOutput)
    await turn.tools.begin(call_id, "locate", {"precise": True})
    yield ToolRunning(call_id=call_id, arguments={"precise": True}, runs_in="client")
    answer = await given
    result = ToolResult(call_id=call_id, output=answer.output, error=answer.error, status="completed")
    turn.tools.settle(result)
    yield result
    yield f"You are in {answer.output}."


async def fail(turn: Turn) -> AsyncIterator[Output]:
    """Fail in the middle."""
    yield "Well, "
    raise TurnFailed("upstream", retryable="later" in turn.text)


async def section(turn: Turn) -> AsyncIterator[Output]:
    """Read a text that must be read whole."""
    async with turn.uninterruptible():
        for word in ("This ", "is ", "legal."):
            yield word
            await asyncio.sleep(0.05)


SCENES = {scene.__name__: scene for scene in (count, recall, brief, look, buy, locate, fail, section)}
