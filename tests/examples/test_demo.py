"""The demo agent shows what it says it shows, to clients that know its tools and to those that do not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bargein_protocol import (
    Data,
    Progress,
    ServerEvent,
    TextDelta,
    Thought,
    ToolCallDelta,
    ToolConfirm,
    ToolDecision,
    ToolOutput,
    ToolResult,
    ToolRunning,
    UnknownEvent,
)
from bargein_server.examples.demo import ANSWER_S, DRAFT, FORMATTED, HELP, SCENES, STORY, SUGGESTIONS, demo
from memory_client import Line, serve

pytestmark = pytest.mark.virtual_time


async def until_event(line: Line, kind: type[Any]) -> Any:
    """Let time pass until an event of this type has come; returns it."""
    while True:
        for event in line.events:
            if isinstance(event, kind):
                return event
        await asyncio.sleep(0.01)


async def until_ended(line: Line, turns: int = 1) -> None:
    while len(line.ends()) < turns:
        await asyncio.sleep(0.01)


def said(events: list[ServerEvent | UnknownEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta) and not event.source)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [("Tell me a STORY", STORY), ("help", HELP), ("format, please", FORMATTED), ("anything", HELP)],
)
async def test_words_that_it_knows(asked: str, answer: str) -> None:
    """Each has its answer; whatever else is said, the answer tells which words there are."""
    line = Line(serve(demo))
    line.ask(asked)
    await until_ended(line)
    assert said(line.events).strip() == answer.strip()
    [suggestions] = [event for event in line.events if isinstance(event, Data)]
    assert suggestions.value == SUGGESTIONS
    assert [event for event in line.events if isinstance(event, ToolResult)]


@pytest.mark.parametrize("asked", ["story", "help", "format", "count", "legal", "anything"])
async def test_the_first_word_comes_within_100_ms(asked: str) -> None:
    """The look-ups run beside the answer, and end before the turn does."""
    line = Line(serve(demo))
    line.ask(asked)
    begun = asyncio.get_running_loop().time()
    await until_event(line, TextDelta)
    assert asyncio.get_running_loop().time() - begun <= 0.1
    if asked == "format":
        await until_ended(line)
        assert [event.status for event in line.events if isinstance(event, ToolResult)] == ["completed"] * 3


def test_every_word_is_told() -> None:
    """The help names all scenes, and a suggestion leads to each."""
    for word in SCENES:
        assert f"**{word}**" in HELP
        assert any(word in suggestion.lower() for suggestion in SUGGESTIONS)


async def test_it_takes_up_what_was_cut() -> None:
    """The next answer begins with the last words that were heard."""
    line = Line(serve(demo))
    turn = line.ask("story")
    while len(said(line.events).split()) < 6:
        await asyncio.sleep(0.01)
    line.interrupt(turn)
    line.ask("help")
    await until_ended(line, 2)
    assert "I was cut off after" in "".join(e.text for e in line.events if isinstance(e, Thought))
    assert "You stopped me after" in said(line.events)


async def test_a_draft_is_written_as_arguments() -> None:
    """Piece by piece; the client runs the tool, and what it returns counts."""
    line = Line(serve(demo))
    line.ask("email")
    running: ToolRunning = await until_event(line, ToolRunning)
    written = "".join(event.arguments for event in line.events if isinstance(event, ToolCallDelta))
    assert json.loads(written) == running.arguments == DRAFT
    assert running.runs_in == "client"
    line.send(ToolOutput(call_id=running.call_id, output={"body": "Only these words"}))
    await until_ended(line)
    assert "draft of 3 words" in said(line.events)
    result: ToolResult = await until_event(line, ToolResult)
    assert result.status == "completed"


@pytest.mark.parametrize("answered", [True, False])
async def test_a_draft_that_is_not_wanted(answered: bool) -> None:
    """Refused, or left alone for too long: the turn completes all the same."""
    line = Line(serve(demo))
    line.ask("email")
    running: ToolRunning = await until_event(line, ToolRunning)
    if answered:
        line.send(ToolOutput(call_id=running.call_id, error="no"))
    else:
        await asyncio.sleep(ANSWER_S)
    await until_ended(line)
    assert "let the draft go" in said(line.events)
    assert line.ends()[0].status == "completed"


@pytest.mark.parametrize(
    ("allow", "status"), [(True, "completed"), (False, "cancelled"), (None, "cancelled")]
)
async def test_a_booking_is_asked_for(allow: bool | None, status: str) -> None:
    """It begins when it was allowed, and not when nobody answers."""
    line = Line(serve(demo))
    line.ask("book")
    asked: ToolConfirm = await until_event(line, ToolConfirm)
    if allow is None:
        await asyncio.sleep(ANSWER_S)
    else:
        line.send(ToolDecision(call_id=asked.call_id, allow=allow))
    await until_ended(line)
    result: ToolResult = await until_event(line, ToolResult)
    assert result.status == status
    assert bool([event for event in line.events if isinstance(event, ToolRunning)]) == bool(allow)


async def test_the_team_speaks_at_the_same_time() -> None:
    """Three voices, each with its progress to the end, then the agent's own."""
    line = Line(serve(demo))
    line.ask("team")
    await until_ended(line)
    voices = [event.source for event in line.events if isinstance(event, TextDelta)]
    last = {name: len(voices) - 1 - voices[::-1].index(name) for name in ("navigator", "cook", "sceptic")}
    first = {name: voices.index(name) for name in last}
    assert max(first.values()) < max(last.values())
    assert min(last.values()) > min(first.values())
    done = [event for event in line.events if isinstance(event, Progress) and event.value == event.total]
    assert {event.source for event in done} == set(last)
    assert said(line.events).startswith("All three have answered")
