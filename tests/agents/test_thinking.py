"""Models that think for minutes: what counts as alive, what the user sees, and what ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bargein_protocol import Status, Thought, TurnEnded, TurnStarted
from bargein_server import Agent, Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from memory_client import Line, serve
from model_server import Call, Upstream
from waiting import until

pytestmark = pytest.mark.virtual_time


@asynccontextmanager
async def asked(agent: Agent, **settings: Any) -> AsyncIterator[Line]:
    """A session with the default limits that has asked."""
    sessions = serve(agent, **settings)
    line = Line(sessions)
    line.ask()
    yield line
    await sessions.shut_down()


async def called(upstream: Upstream) -> Call:
    """Wait for the request; the SDK prepares its first one in a thread, while virtual time would fly."""
    await until(lambda: upstream.calls, "the request")
    return upstream.calls[0]


async def end_of(line: Line) -> TurnEnded:
    """Wait in virtual time."""
    while not line.ends():
        await asyncio.sleep(1)
    return line.ends()[-1]


def statuses(line: Line) -> list[str]:
    return [event.message for event in line.events if isinstance(event, Status)]


async def keep_alive(call: Call, how: str) -> None:
    """Be silent for seven minutes, in a way that servers have."""
    if how == "no headers":
        await asyncio.sleep(420)
        call.open()
        return
    call.open()
    for _ in range(21):
        await asyncio.sleep(20)
        if how == "comments":
            call.comment()
        elif how == "empty deltas":
            call.delta(role="assistant", content="")
        elif how == "null deltas":
            call.delta(content=None, reasoning_content=None)


@pytest.mark.parametrize("how", ["no headers", "only headers", "comments", "empty deltas", "null deltas"])
async def test_a_model_that_thinks_for_minutes(how: str) -> None:
    """It may, also with bytes that show nothing; the user sees one status, and then the answer."""
    async with Upstream() as upstream, asked(OpenAIAgent(model="m", base_url=upstream.url)) as line:
        call = await called(upstream)
        await keep_alive(call, how)
        assert (line.ends(), statuses(line)) == ([], ["Thinking…"])
        call.text("42")
        call.finish()
        end = await end_of(line)
        assert (end.reason, end.heard.text) == ("completed", "42")
        assert statuses(line) == ["Thinking…"]
        assert len(upstream.calls) == 1


async def test_a_model_that_thinks_between_its_words() -> None:
    """Comments in the middle of an answer are bytes as well."""
    async with Upstream() as upstream, asked(OpenAIAgent(model="m", base_url=upstream.url)) as line:
        call = await called(upstream)
        call.open()
        call.delta(reasoning_content="Hm.")
        for _ in range(10):
            await asyncio.sleep(60)
            call.comment()
        call.text("42")
        call.finish()
        assert (await end_of(line)).reason == "completed"
        assert [event.text for event in line.events if isinstance(event, Thought)] == ["Hm."]
        assert statuses(line) == []


async def test_a_quick_model_shows_no_status() -> None:
    """The status is for waits that a user notices."""
    async with Upstream() as upstream, asked(OpenAIAgent(model="m", base_url=upstream.url)) as line:
        call = await called(upstream)
        await asyncio.sleep(2)
        call.answer("42")
        await end_of(line)
        await asyncio.sleep(10)
        assert statuses(line) == []


async def test_a_model_that_falls_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Without a byte for `model_silence_s` the turn fails as the model's, and the log has the setting."""
    async with Upstream() as upstream, asked(OpenAIAgent(model="m", base_url=upstream.url)) as line:
        call = await called(upstream)
        call.open()
        call.text("Once")
        await until(line.texts, "the text")
        began = asyncio.get_running_loop().time()
        with caplog.at_level(logging.WARNING, "bargein.turn"):
            end = await end_of(line)
        assert (end.status, end.reason, end.retryable) == ("failed", "upstream", True)
        assert 119 <= asyncio.get_running_loop().time() - began <= 122
        assert "no byte for 120 s; see model_first_byte_s and model_silence_s" in caplog.text
        assert await call.gone() in ("eof", "reset")


@pytest.mark.parametrize("how", ["no headers", "comments"])
async def test_an_agent_of_ones_own_that_thinks(how: str) -> None:
    """Every call through `turn.http_client()` counts as alive, whatever client reads it."""
    async with Upstream() as upstream:

        async def agent(turn: Turn) -> AsyncIterator[Output]:
            async with turn.http_client().stream("POST", upstream.url) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        yield "42"

        async with asked(agent) as line:
            call = await called(upstream)
            await keep_alive(call, how)
            call.text("x")
            call.done()
            assert (await end_of(line)).reason == "completed"


@pytest.mark.parametrize(("what", "after_s"), [("nothing", 30), ("after a call", 30), ("unread", 605)])
async def test_an_agent_that_does_nothing_still_ends(what: str, after_s: float) -> None:
    """A call that is over does not count, nor does one that nobody reads for longer than its limit."""
    async with Upstream() as upstream:
        began: list[float] = []

        async def agent(turn: Turn) -> AsyncIterator[Output]:
            client = turn.http_client()
            if what == "after a call":
                await client.get(upstream.url)
            began.append(asyncio.get_running_loop().time())
            if what == "unread":
                async with client.stream("GET", upstream.url):
                    await asyncio.sleep(1e5)
            await asyncio.sleep(1e5)
            yield "never"

        async with asked(agent) as line:
            if what != "nothing":
                call = await called(upstream)
                call.open() if what == "unread" else call.reply(200, {})
            end = await end_of(line)
            assert (end.status, end.reason) == ("failed", "no_output")
            assert after_s - 1 <= asyncio.get_running_loop().time() - began[0] <= after_s + 2


async def test_a_whole_turn_may_have_a_time() -> None:
    """With `turn_s`, signs of life do not prolong the turn, and the model is closed."""
    async with Upstream() as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url)
        async with asked(agent, turn_s=100.0) as line:
            call = await called(upstream)
            call.open()
            for _ in range(11):
                if not line.ends():
                    call.comment()
                await asyncio.sleep(10)
            [end] = line.ends()
            assert (end.status, end.reason) == ("failed", "timeout")
            assert await call.gone() in ("eof", "reset")


async def test_an_interrupt_while_it_thinks() -> None:
    """It closes the model at once, and no status follows."""
    async with Upstream() as upstream, asked(OpenAIAgent(model="m", base_url=upstream.url)) as line:
        call = await called(upstream)
        call.open()
        [turn] = [event.turn_id for event in line.events if isinstance(event, TurnStarted)]
        line.interrupt(turn)
        assert await call.gone() in ("eof", "reset")
        await asyncio.sleep(10)
        assert [end.status for end in line.ends()] == ["interrupted"]
        assert statuses(line) == []
