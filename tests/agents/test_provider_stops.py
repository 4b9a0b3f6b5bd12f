"""Answers that a provider of its own API pauses, refuses or breaks off."""

from __future__ import annotations

from typing import Any

import pytest

from provider_servers import Anthropic, AnthropicAnswer, Google, GoogleAnswer
from provider_talk import Talk, add


async def answer_of(provider: Anthropic | Google) -> Any:
    answer = await provider.answer()
    answer.open()
    return answer


async def test_a_paused_answer_is_continued() -> None:
    """`pause_turn`: the same answer goes on, its tools run, and the tokens of both requests count."""
    async with Anthropic() as provider:
        talk = Talk(provider, tools=[add])
        talk.line.ask()
        answer: AnthropicAnswer = await answer_of(provider)
        answer.say("Let me ")
        provider.paused = True
        answer.finish("pause_turn")
        answer = await answer_of(provider)
        assert answer.call.body["messages"][-1]["content"][-1]["text"] == "Let me "
        answer.say("see. ")
        answer.use("add", '{"a": 1, "b": 2}')
        provider.paused = False
        answer.finish()
        answer = await answer_of(provider)
        assert [said[1] for said in provider.said(answer.call.body)][-1].endswith("see. ")
        assert provider.results(answer.call.body) == ["3"]
        answer.say("3.")
        answer.finish()
        end = await talk.ended()
        assert (end.status, end.heard.text) == ("completed", "Let me see. 3.")
        assert end.usage.output_tokens == 15
        await talk.sessions.shut_down()


async def test_a_model_that_only_pauses() -> None:
    """It is asked ten times more; then the turn has failed."""
    async with Anthropic() as provider:
        talk = Talk(provider, max_retries=0)
        talk.line.ask()
        for number in range(11):
            answer: AnthropicAnswer = await answer_of(provider)
            answer.say(f"{number} ")
            provider.paused = True
            answer.finish("pause_turn")
        end = await talk.ended()
        assert (end.status, end.reason) == ("failed", "upstream")
        assert len(provider.upstream.calls) == 11
        await talk.sessions.shut_down()


async def test_an_interrupt_between_two_parts_of_an_answer() -> None:
    """The request that continues it is closed."""
    async with Anthropic() as provider:
        talk = Talk(provider)
        turn = talk.line.ask()
        answer: AnthropicAnswer = await answer_of(provider)
        answer.say("One ")
        provider.paused = True
        answer.finish("pause_turn")
        answer = await answer_of(provider)
        talk.line.interrupt(turn)
        assert await answer.gone() in ("eof", "reset")
        end = await talk.ended()
        assert (end.status, end.heard.text) == ("interrupted", "One ")
        await talk.sessions.shut_down()


@pytest.mark.parametrize("reason", ["SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "OTHER"])
async def test_a_blocked_prompt(reason: str) -> None:
    """The answer is empty for its content, and the next turn is answered."""
    async with Google() as provider:
        talk = Talk(provider, max_retries=0)
        talk.line.ask()
        answer: GoogleAnswer = await answer_of(provider)
        answer.block(reason)
        end = await talk.ended()
        assert (end.status, end.reason) == ("completed", "content_filter"), (end.status, end.reason)
        talk.line.ask("again")
        answer = await answer_of(provider)
        answer.say("Yes")
        answer.finish()
        assert (await talk.ended(2)).heard.text == "Yes"
        await talk.sessions.shut_down()


@pytest.mark.filterwarnings("ignore:NEW_REASON is not a valid")
@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "NEW_REASON"])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_call_that_gemini_could_not_write(reason: str, begun: bool) -> None:
    """It is asked again, unless the user has a part of the answer already."""
    async with Google() as provider:
        talk = Talk(provider, tools=[add], max_retries=1)
        talk.line.ask()
        answer: GoogleAnswer = await answer_of(provider)
        if begun:
            answer.say("Let me see. ")
            await talk.line.until("text.delta")
        answer.finish(reason)
        if not begun and reason != "NEW_REASON":
            answer = await answer_of(provider)
            answer.say("Three.")
            answer.finish()
        end = await talk.ended()
        assert end.reason == ("upstream" if begun and reason != "NEW_REASON" else "completed")
        await talk.sessions.shut_down()
