"""The agent for models of Anthropic and Google, against servers that refuse what theirs refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bargein_protocol import (
    Status,
    StepEnded,
    Thought,
    ToolCall,
    ToolConfirm,
    ToolDecision,
    ToolResult,
    Usage,
)
from bargein_server.agents.provider_models import KEYS
from bargein_server.agents.tools import tool
from provider_servers import Anthropic, Google, Provider
from provider_talk import Talk, add

PROVIDERS = [Anthropic, Google]


@pytest.fixture(params=PROVIDERS)
async def provider(request: pytest.FixtureRequest) -> AsyncIterator[Provider]:
    """The provider's server."""
    async with request.param() as server:
        yield server


@pytest.fixture
async def talk(provider: Provider) -> AsyncIterator[Talk]:
    """A conversation with thinking and a tool."""
    conversation = Talk(provider, tools=[add], thinking=True, instructions="Be brief.")
    yield conversation
    await conversation.sessions.shut_down()
    assert not conversation.sessions.abandoned
    assert not conversation.agent._own_messages


async def test_text_thoughts_and_usage(talk: Talk) -> None:
    """Text and thoughts come as they are written, and the provider's count of tokens at the end."""
    talk.line.ask()
    answer = await talk.provider.answer()
    answer.open()
    answer.think("Hm. ")
    answer.say("Good ")
    await talk.line.until("text.delta")
    assert [thought.text for thought in talk.of(Thought)] == ["Hm. "]
    answer.say("morning.")
    answer.finish()
    end = await talk.ended()
    assert (end.status, end.heard.text) == ("completed", "Good morning.")
    assert end.usage == Usage(input_tokens=7, output_tokens=5)
    assert not talk.of(ToolCall)


async def test_parallel_tools_and_the_model_s_own_message(talk: Talk) -> None:
    """Calls run in parallel; the model gets its message back with the signature, and each result."""
    talk.line.ask("What is 1 + 2, and 3 + 4?")
    answer = await talk.provider.answer()
    answer.open()
    answer.think("Two sums.")
    answer.say("Let me see. ")
    answer.use("add", '{"a": 1', ', "b": 2}')
    answer.use("add", '{"a": 3, "b": 4}')
    answer.finish()
    answer = await talk.provider.answer()  # checks the signature
    assert talk.provider.results(answer.call.body) == ["3", "7"]
    answer.open()
    answer.think("Done.")
    answer.use("add", '{"a": 3, "b": 7}')
    answer.finish()
    answer = await talk.provider.answer()
    assert talk.provider.results(answer.call.body) == ["3", "7", "10"]
    answer.open()
    answer.say("3, 7 and 10.")
    answer.finish()
    assert (await talk.ended()).status == "completed"
    assert [step.index for step in talk.of(StepEnded)] == [0, 1, 2]
    talk.line.ask("Thanks")
    answer = await talk.provider.answer()
    assert talk.provider.results(answer.call.body) == ["3", "7", "10"]
    assert ("assistant", "3, 7 and 10.") in talk.provider.said(answer.call.body)
    answer.open()
    answer.say("Welcome")
    answer.finish()
    await talk.ended(2)


async def test_a_call_that_cannot_be_made(talk: Talk) -> None:
    """Wrong arguments and unknown tools with impossible names are told to the model, validly."""
    talk.line.ask()
    answer = await talk.provider.answer()
    answer.open()
    answer.think("Hm.")
    answer.use("add", '{"a": "many", "b": 2}')
    answer.use("functions.add !", "{}")
    answer.finish()
    answer = await talk.provider.answer()
    first, second = talk.provider.results(answer.call.body)
    assert first.startswith("error: Expected `int`")
    assert second == "error: there is no tool of this name; there are: add"
    answer.open()
    answer.say("Sorry")
    answer.finish()
    assert (await talk.ended()).status == "completed"


async def test_a_wrong_key(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    """It fails at once, as a failure that a retry does not mend; the log names the provider's variable."""
    talk.line.ask()
    (await talk.provider.answer()).fail(401)
    end = await talk.ended()
    assert (end.status, end.reason, end.retryable) == ("failed", "upstream", False)
    assert len(talk.provider.upstream.calls) == 1
    assert f"check {KEYS[talk.provider.model.partition(':')[0]][0]}" in caplog.text


@pytest.mark.parametrize("limited", [True, False])
async def test_a_busy_provider_is_asked_again(talk: Talk, limited: bool) -> None:
    """429 with retry-after and an overload are retried before the first token, by the agent alone."""
    talk.line.ask()
    answer = await talk.provider.answer()
    answer.fail(429 if limited else talk.provider.overloaded, retry_after="0.01")
    answer = await talk.provider.answer()
    answer.open()
    answer.say("Here")
    answer.finish()
    assert (await talk.ended()).heard.text == "Here"
    assert len(talk.provider.upstream.calls) == 2


async def test_a_provider_that_stays_busy(talk: Talk) -> None:
    """A wait that is too long to wait ends the turn as one that may be tried again."""
    talk.line.ask()
    (await talk.provider.answer()).fail(429, retry_after="600")
    end = await talk.ended()
    assert (end.status, end.reason, end.retryable) == ("failed", "upstream", True)
    assert not talk.of(Status)


async def test_an_error_before_the_first_token_of_a_stream(talk: Talk) -> None:
    """A stream that begins with an overload is tried again."""
    talk.agent.max_retries = 1
    talk.line.ask()
    answer = await talk.provider.answer()
    answer.open()
    answer.fail_in_stream()
    answer = await talk.provider.answer()
    answer.open()
    answer.say("Here")
    answer.finish()
    assert (await talk.ended()).heard.text == "Here"


async def test_an_error_in_the_middle_of_a_stream(talk: Talk) -> None:
    """It ends the turn as retryable; a second answer would begin in the middle of the first."""
    talk.line.ask()
    answer = await talk.provider.answer()
    answer.open()
    answer.say("Once")
    await talk.line.until("text.delta")
    answer.fail_in_stream()
    end = await talk.ended()
    assert (end.status, end.reason, end.retryable) == ("failed", "upstream", True)
    assert end.heard.text == "Once"
    assert len(talk.provider.upstream.calls) == 1


@pytest.mark.parametrize("end_of_body", [True, False])
async def test_a_stream_that_is_cut(talk: Talk, end_of_body: bool) -> None:
    """A connection that is lost, and a body that ends without a finish reason, fail the turn."""
    talk.line.ask()
    answer = await talk.provider.answer()
    answer.open()
    answer.say("Once")
    await talk.line.until("text.delta")
    answer.call.end() if end_of_body else answer.call.cut()
    end = await talk.ended()
    assert (end.status, end.reason, end.retryable) == ("failed", "upstream", True)


async def test_an_event_that_is_not_json(talk: Talk) -> None:
    """It is a failure of the provider, not of the agent."""
    talk.line.ask()
    answer = await talk.provider.answer()
    answer.open()
    answer.say("Once")
    answer.call.event("{]", "content_block_delta")
    answer.call.end()
    end = await talk.ended()
    assert (end.status, end.reason) == ("failed", "upstream")


@pytest.mark.parametrize("filtered", [True, False])
async def test_an_answer_that_the_provider_stops(talk: Talk, filtered: bool) -> None:
    """A limit of tokens and a refusal end the turn with the text that there is."""
    talk.line.ask()
    answer = await talk.provider.answer()
    answer.open()
    answer.say("Once")
    answer.finish(talk.provider.filtered if filtered else talk.provider.limited)
    end = await talk.ended()
    assert (end.status, end.heard.text[:4]) == ("completed", "Once")


async def test_a_history_that_is_too_long(talk: Talk) -> None:
    """It is shortened until the provider takes it, as for every other model."""
    talk.agent.history_tokens = 400
    for number in range(3):
        talk.line.ask(f"{number} " * 40)
        answer = await talk.provider.answer()
        answer.open()
        answer.say("Yes")
        answer.finish()
        await talk.ended(number + 1)
    talk.line.ask("and?")
    answer = await talk.provider.answer()
    before = len(talk.provider.said(answer.call.body))
    answer.too_long()
    answer = await talk.provider.answer()
    assert len(talk.provider.said(answer.call.body)) < before
    answer.open()
    answer.say("Yes")
    answer.finish()
    assert (await talk.ended(4)).status == "completed"


async def test_forced_calls_and_the_last_step(provider: Provider) -> None:
    """A final tool answers, and a last step is without tools; both in the provider's own words."""
    talk = Talk(provider, tools=[add], final_tool="answer")
    talk.line.ask()
    reply = await talk.provider.answer()
    body = reply.call.body
    modes = [body.get("tool_choice", {}).get("type"),
             body.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode")]  # fmt: skip
    assert "any" in modes or "ANY" in modes
    reply.open()
    reply.use("answer", '{"answer": "Fo', 'rty-two"}')
    reply.finish()
    assert (await talk.ended()).heard.text == "Forty-two"
    await talk.sessions.shut_down()

    talk = Talk(provider, tools=[add], max_steps=1)
    talk.line.ask()
    reply = await talk.provider.answer()
    body = reply.call.body
    modes = [body.get("tool_choice", {}).get("type"),
             body.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode")]  # fmt: skip
    assert "none" in modes or "NONE" in modes
    reply.open()
    reply.say("No")
    reply.finish()
    assert (await talk.ended()).heard.text == "No"
    await talk.sessions.shut_down()


async def test_consent(provider: Provider) -> None:
    """Tools that ask the user work as with every other model."""
    talk = Talk(provider, tools=[tool(confirm=True)(add)])
    talk.line.ask()
    answer = await provider.answer()
    answer.open()
    answer.use("add", '{"a": 1, "b": 2}')
    answer.finish()
    await talk.line.until("tool.confirm")
    [confirm] = talk.of(ToolConfirm)
    talk.line.send(ToolDecision(call_id=confirm.call_id, allow=False))
    answer = await provider.answer()
    assert provider.results(answer.call.body) == ["cancelled: not allowed by the user"]
    answer.open()
    answer.say("As you like")
    answer.finish()
    await talk.ended()
    assert [result.status for result in talk.of(ToolResult)] == ["cancelled"]
    await talk.sessions.shut_down()


PLACES = [
    "before",
    "thinking",
    "text",
    "held",
    "arguments",
    "tool",
    "two tools",
    "after",
    "answer",
    "consent",
]


@pytest.mark.parametrize("place", PLACES)
async def test_an_interrupt(provider: Provider, place: str) -> None:
    """The model's connection is closed in 100 ms, no tool begins, and the next two requests are valid."""
    begun: list[str] = []
    gate = asyncio.Event()

    async def look(n: int) -> str:
        begun.append(f"look {n}")
        if n:
            await gate.wait()
        return "seen"

    async def touch() -> None:
        begun.append("touch")

    talk = Talk(provider, tools=[look, tool(confirm=True)(touch)], thinking=True)
    line = talk.line
    turn = line.ask("Look")
    answer = await provider.answer()
    open_answer = answer
    if place != "before":
        answer.open()
        answer.think("Hm.")
        await line.until("thought")
    if place in ("text", "held"):
        answer.say("I see ")
        await line.until("text.delta")
        if place == "held":
            line.block()
            for _ in range(50):
                answer.say("a house and a tree ")
                await asyncio.sleep(0)
    elif place == "arguments":
        answer.use("look", '{"n"', done=False)
        answer.use("look", '{"n"', done=False)
        await asyncio.sleep(0.01)
    elif place == "consent":
        answer.use("touch")
        answer.finish()
        await line.until("tool.confirm")
    elif place in ("tool", "two tools", "after", "answer"):
        answer.use("look", '{"n": 0}' if place in ("after", "answer") else '{"n": 1}')
        if place == "two tools":
            answer.use("look", '{"n": 2}')
        answer.finish()
        if place in ("tool", "two tools"):
            await line.until("tool.running", 2 if place == "two tools" else 1)
        else:
            open_answer = await provider.answer()
            if place == "answer":
                open_answer.open()
                open_answer.say("I see ")
                await line.until("text.delta")
    already = list(begun)
    loop = asyncio.get_running_loop()
    start = loop.time()
    line.interrupt(turn)
    if open_answer.call.open_now and place not in ("tool", "two tools", "consent"):
        await open_answer.gone()
        assert loop.time() - start < 0.1
    line.block(False)
    await talk.ended()
    for number in (2, 3):
        line.ask("and?")
        answer = await provider.answer()
        said = provider.said(answer.call.body)
        results = provider.results(answer.call.body)
        expected = {"tool": ["cancelled"], "two tools": ["cancelled"] * 2, "consent": ["cancelled"],
                    "after": ["seen"], "answer": ["seen"]}  # fmt: skip
        if place != "arguments":
            assert results == expected.get(place, [])
        assert any("[interrupted]" in text for role, text in said if role == "assistant")
        answer.open()
        answer.say("Yes")
        answer.finish()
        assert (await talk.ended(number)).status == "completed"
    assert begun == already
    await talk.sessions.shut_down()
    assert not talk.sessions.abandoned
