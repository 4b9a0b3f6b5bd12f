"""Demo agents: no key, no model, no network.

`demo` uses every kind of output: a status, thoughts, look-ups as parallel tool calls, streamed text, an
uninterruptible section, a reference to the answer that was cut off, a draft to edit, a question, a team of
agents, and formatted text.

`tone` plays each word as a short note and needs no voice to be installed. Like speech synthesis, it makes
audio far faster than it is played, so it exercises the duties of a client: to play evenly, to fall silent
within one block, and to report playback.
"""

from __future__ import annotations

import asyncio
import json
import random
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing
from datetime import datetime
from math import pi, sin
from sys import byteorder
from typing import Literal

from bargein_protocol import (
    AudioDelta,
    CallId,
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


SCISSORS = "\u2702"

STORY = (
    "Once upon a time there was a lighthouse keeper who could not stop talking. He told the ships "
    "about the weather, and the gulls about the ships, and at night, when nobody was left to listen, "
    "he told the sea about his mother's soup. The sea, which is patient, let him finish for thirty "
    "years. Then one evening a small boat came by, and a girl in it called up: \u201cExcuse me!\u201d The "
    "keeper stopped in the middle of a word. Nobody had ever done that before. \u201cI only wanted to "
    "ask,\u201d said the girl, \u201cwhich way to the harbour.\u201d And the keeper found, to his surprise, "
    "that the answer was short, and that it was much nicer to be asked than to be heard. From that day on "
    "he paused after every sentence, and the ships began to answer, and it turned out that they had "
    "stories too: of islands that move at night, of a whale who collected bells, and of a captain who "
    "once sailed three weeks in the wrong direction because nobody dared to interrupt him."
)
HELP = (
    "I am the demo agent, and I am here to be cut off. Say anything while I talk, press Ctrl-C in the "
    "terminal, or Escape on the page. Ask for a **story** if you want something long, **count** for "
    "numbers, **legal** for a sentence that cannot be interrupted, **email** for a draft that you can edit, "
    "**book** for a question, **team** for three agents side by side, **format** for headings and code, or "
    "**fail** to see how an error looks."
)
SUGGESTIONS = [
    "Tell me a story",
    "Draft an email",
    "Ask your team",
    "Book a seat",
    "Show the format",
    "Legal",
]
SCENES: dict[str, Callable[[Turn], AsyncGenerator[Output, None]]] = {
    "email": draft,
    "book": booking,
    "team": team,
}
TERMS = (
    "This sentence is protected: by listening to it you agree that an interruption is kept waiting "
    "until it is over, and not one word longer."
)


async def demo(turn: Turn) -> AsyncIterator[Output]:
    """Answer in the way that the input asks for."""
    asked = turn.text.lower()
    yield turn.status("Reading what you said", "eye")
    cut = _last_heard_words(turn)
    if cut:
        yield turn.thought(f"I was cut off after \u201c{cut}\u201d. ")
    if "fail" in asked:
        raise RuntimeError("the demo agent was asked to fail")
    if "legal" in asked:
        async with turn.uninterruptible():
            async for word in spoken(TERMS):
                yield word
        yield "\n\nFrom here on you can stop me again. "
    scene = next((scene for word, scene in SCENES.items() if word in asked), None)
    if scene is not None:
        async with aclosing(scene(turn)) as outputs:
            async for output in outputs:
                yield output
        return
    yield turn.thought("Let me look a few things up side by side. ")
    yield turn.status("Looking things up", "search")
    for name, _, _ in _LOOK_UPS:
        for output in _call_of(turn, name):
            yield output
    # Beside the answer, whose first word does not wait for them.
    look_ups = [turn.spawn(_look_up(turn, name, seconds, find)) for name, seconds, find in _LOOK_UPS]
    async for word in spoken(_answer(turn, asked, cut)):
        yield word
    await asyncio.gather(*look_ups)
    yield turn.data("suggestions", SUGGESTIONS)


def _answer(turn: Turn, asked: str, cut: str | None) -> str:
    opening = f"You stopped me after \u201c{cut}\u201d, so I let that go. " if cut else ""
    if "story" in asked:
        return opening + STORY
    if "format" in asked:
        return FORMATTED
    if "count" in asked:
        return opening + " ".join(f"{number}," for number in range(1, 400)) + " and that is enough."
    if "legal" in asked or "help" in asked or "?" not in turn.text:
        return opening + HELP
    words = len(turn.text.split())
    return (
        f"{opening}You asked \u201c{turn.text}\u201d, which is {words} words long. I have no model behind "
        f"me, so I cannot know; but I can tell you at length that I do not. {HELP}"
    )


def _last_heard_words(turn: Turn) -> str | None:
    """Return the last heard words of an answer that was cut, if one was."""
    before = [
        message for message in turn.history.messages(mark="\u2702")[:-1] if message["role"] == "assistant"
    ]
    content = str(before[-1].get("content") or "") if before else ""
    return " ".join(content[:-1].split()[-4:]) or None if content.endswith("\u2702") else None


def _call_of(turn: Turn, name: str) -> Iterator[Output]:
    call_id, arguments = CallId(f"{turn.id}-{name}"), {"text": turn.text[:200]}
    yield ToolCall(call_id=call_id, name=name)
    yield ToolCallDelta(call_id=call_id, arguments=json.dumps(arguments))
    yield ToolRunning(call_id=call_id, arguments=arguments)


async def _look_up(turn: Turn, name: str, seconds: float, find: Callable[[Turn], object]) -> None:
    call_id = CallId(f"{turn.id}-{name}")
    await asyncio.sleep(seconds)
    await turn.emit(
        ToolResult(call_id=call_id, output=find(turn), status="completed", duration_ms=int(seconds * 1000))
    )


def _count_words(turn: Turn) -> object:
    return {"words": len(turn.text.split()), "characters": len(turn.text)}


def _tell_time(turn: Turn) -> object:
    return {"time": datetime.now().astimezone().isoformat(timespec="seconds")}


def _recall(turn: Turn) -> object:
    return {"messages_before": len(turn.history.messages()) - 1}


_LOOK_UPS: list[tuple[str, float, Callable[[Turn], object]]] = [
    ("count_words", 0.3, _count_words),
    ("tell_time", 0.6, _tell_time),
    ("recall", 0.9, _recall),
]

# --- the agent with sound ------------------------------------------------------------------------

SAMPLES_PER_SECOND = 24_000
CHUNK_MS = 40
WORD_MS = 240
SCALE = (261.63, 293.66, 329.63, 392.0, 440.0, 523.25)
"""Pentatonic scale with its octave, in hertz: all its notes harmonise."""

LONG = (
    "This is the tone agent and each of these words is one note you can stop me in the middle of any "
    "of them and what you have heard is known to the millisecond because the page counts the samples "
    "that its loudspeaker was given and says so to the server which tells the next answer about it"
)


async def tone(turn: Turn) -> AsyncIterator[Output]:
    """Play the words of the input, or of a long text when they are few.

    A client that takes no audio gets the words alone.
    """
    yield turn.status("Tuning", "music")
    words = turn.text.split()
    if len(words) < 4:
        words = LONG.split()
    start_ms = 0
    for number, word in enumerate(words):
        if turn.audio is None:
            yield word + " "
            continue
        hertz = SCALE[(number * 2 + len(word)) % len(SCALE)]
        for offset_ms in range(0, WORD_MS, CHUNK_MS):
            yield AudioDelta(
                audio=note(hertz, offset_ms, CHUNK_MS, WORD_MS, turn.audio.rate),
                start_ms=start_ms,
                duration_ms=CHUNK_MS,
                text=word + " " if offset_ms == 0 else None,
            )
            start_ms += CHUNK_MS
        await asyncio.sleep(0.01)


def note(
    hertz: float, offset_ms: int, duration_ms: int, whole_ms: int, rate: int = SAMPLES_PER_SECOND
) -> bytes:
    """Return a piece of a note as PCM16, little-endian, mono.

    Args:
        hertz: Pitch of the note.
        offset_ms: Start of the piece in the note.
        duration_ms: Duration of the piece.
        whole_ms: Duration of the note, which fades in and out so that it does not click.
        rate: Samples per second.
    """
    first = offset_ms * rate // 1000
    count = duration_ms * rate // 1000
    whole = whole_ms * rate / 1000
    samples = array("h")
    for index in range(first, first + count):
        loudness = min(1.0, 8 * index / whole, 3 * (1 - index / whole))
        samples.append(int(9000 * loudness * sin(2 * pi * hertz * index / rate)))
    if byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
