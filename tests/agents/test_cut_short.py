"""Answers that the model ended early: the client, the log and the next turn learn of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest

from bargein_server import Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from memory_client import Line, serve
from model_server import Call, Upstream


@pytest.mark.parametrize(
    ("finish", "reason", "mark"),
    [
        ("length", "length", " [cut off: too long]"),
        ("max_tokens", "length", " [cut off: too long]"),
        ("content_filter", "content_filter", " [cut off by a content filter]"),
        ("SAFETY", "content_filter", " [cut off by a content filter]"),
        ("stop", "completed", ""),
        ("eos", "completed", ""),
    ],
)
async def test_a_finish_reason(finish: str, reason: str, mark: str, caplog: pytest.LogCaptureFixture) -> None:
    """The turn completes with the reason, the log names it, and history marks the answer."""

    def answer(call: Call) -> None:
        call.open()
        call.text("Once upon")
        call.finish(finish)

    async with Upstream(answer) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url))
        line = Line(sessions)
        with caplog.at_level(logging.WARNING, "bargein.model"):
            for times in (1, 2):
                line.ask()
                await line.until("turn.ended", times)
        await sessions.shut_down()
        assert [(end.status, end.reason) for end in line.ends()] == [("completed", reason)] * 2
        assert upstream.calls[1].body["messages"][1]["content"] == f"Once upon{mark}"
        assert (f"model m ended early: {reason}" in caplog.text) is (reason != "completed")


async def test_a_refusal() -> None:
    """What the model says instead of an answer is heard, and the reason says what it is."""

    def answer(call: Call) -> None:
        call.open()
        call.delta(refusal="I cannot.")
        call.finish()

    async with Upstream(answer) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url))
        line = Line(sessions)
        line.ask()
        await line.until("turn.ended")
        await sessions.shut_down()
        [end] = line.ends()
        assert (end.status, end.reason, end.heard.text) == ("completed", "refusal", "I cannot.")


@pytest.mark.parametrize("finish", ["error", "insufficient_system_resource"])
async def test_a_server_that_gives_up(finish: str) -> None:
    """It is a failure, although the stream ends as it should."""

    def answer(call: Call) -> None:
        call.open()
        call.text("Once upon")
        call.finish(finish)

    async with Upstream(answer) as upstream:
        sessions = serve(OpenAIAgent(model="m", base_url=upstream.url))
        line = Line(sessions)
        line.ask()
        await line.until("turn.ended")
        await sessions.shut_down()
        [end] = line.ends()
        assert (end.status, end.reason, end.retryable) == ("failed", "upstream", True)


async def test_agents_of_ones_own() -> None:
    """Any agent can report it; an unknown reason is the agent's error."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "Once"
        turn.cut_short(turn.text)

    sessions = serve(agent)
    line = Line(sessions)
    for times, reason in enumerate(("length", "whim"), 1):
        line.ask(reason)
        await line.until("turn.ended", times)
    await sessions.shut_down()
    assert [(end.status, end.reason) for end in line.ends()] == [
        ("completed", "length"),
        ("failed", "agent_error"),
    ]
