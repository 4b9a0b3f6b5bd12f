"""Cards of calls, several lanes, and the list of steps."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Locator

from bargein_protocol import Status
from bargein_server import Output, Turn
from bargein_server.examples.demo import DRAFT, demo
from chat_page import person
from live_server import serving
from page_agents import lonely

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def result_of(turn: Locator) -> str:
    """Return the result of the last call, as the steps show it."""
    await turn.locator("summary").first.click()
    return await turn.locator(".call .outcome").last.text_content() or ""


async def test_a_draft_grows_and_is_then_the_users(browser: Browser) -> None:
    """The editor fills as it streams; the user's version is the result."""
    async with serving(demo) as server, person(browser, server.port) as chat:
        turn = await chat.say("Draft an email")
        body = turn.locator(".draft textarea")
        await chat.page.wait_for_function(
            "() => document.querySelector('.draft textarea')?.value.length > 20"
        )
        grown = await body.input_value()
        assert DRAFT["body"].startswith(grown)
        assert len(grown) < len(DRAFT["body"])
        assert await body.get_attribute("readonly") is not None
        await turn.locator(".draft .primary").wait_for()
        assert await body.input_value() == DRAFT["body"]
        await body.fill("Three words now")
        await turn.locator(".draft .primary").click()
        await chat.ended(turn, "completed")
        assert "your draft of 3 words" in (await turn.locator(".text").last.text_content() or "")
        assert json.loads(await result_of(turn)) == {**DRAFT, "body": "Three words now"}
        assert await body.get_attribute("readonly") is not None


async def test_a_draft_that_is_cut_stays_as_it_is(browser: Browser) -> None:
    """The card shows it, and cannot be sent any more."""
    async with serving(demo) as server, person(browser, server.port) as chat:
        turn = await chat.say("Draft an email")
        await turn.locator(".draft").wait_for()
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        assert await turn.locator(".draft .state").text_content() == "cut off"
        assert await turn.locator(".draft .primary").is_hidden()
        assert await turn.locator(".ended").text_content() != ""


@pytest.mark.parametrize(("button", "answer"), [("Allow", "BOAT-3"), ("Deny", "I book nothing")])
async def test_the_user_is_asked(browser: Browser, button: str, answer: str) -> None:
    """With the arguments in sight; the answer counts."""
    async with serving(demo) as server, person(browser, server.port) as chat:
        turn = await chat.say("Book a seat")
        question = turn.locator(".question")
        assert "3 shells" in (await question.text_content() or "")
        await question.get_by_role("button", name=button).click()
        await chat.ended(turn, "completed")
        assert answer in (await turn.locator(".text").last.text_content() or "")
        assert (
            await question.get_by_role("button").count() == 0
            or await question.locator(".buttons").is_hidden()
        )


async def test_agents_stand_beside_each_other(browser: Browser) -> None:
    """Each lane has name, progress and words; later text is below."""
    async with serving(demo) as server, person(browser, server.port) as chat:
        turn = await chat.say("Ask your team")
        await chat.ended(turn, "completed")
        lanes = turn.locator(".lane")
        assert await lanes.locator("> h3").all_text_contents() == ["navigator", "cook", "sceptic"]
        boxes = [await lanes.nth(n).bounding_box() for n in range(3)]
        assert len({box["y"] for box in boxes if box is not None}) == 1
        assert "soup for three days" in (await lanes.nth(1).locator(".text").text_content() or "")
        await lanes.nth(2).locator("summary").click()
        assert await lanes.nth(2).locator("progress").evaluate("bar => [bar.value, bar.max]") == [11, 11]
        below = await turn.locator(".lanes ~ .text").text_content() or ""
        assert below.startswith("All three have answered")


async def test_steps_are_folded_and_fill(browser: Browser) -> None:
    """The summary shows the last step; the open list shows all steps."""
    async with serving(demo) as server, person(browser, server.port) as chat:
        turn = await chat.say("hello")
        await turn.locator("summary").wait_for()
        assert await turn.locator(".thinking ol").is_hidden()
        await turn.locator("summary").click()
        await turn.locator(".call .head", has_text="300 ms").wait_for()
        steps = await turn.locator(".step").all_inner_texts()
        assert any("Reading what you said" in step for step in steps)
        assert any("side by side" in step for step in steps)
        calls = await turn.locator(".call .head").all_inner_texts()
        assert [call.split()[0] for call in calls] == ["count_words", "tell_time", "recall"]
        assert "300 ms" in calls[0]
        await chat.ended(turn, "completed")
        assert "Worked for" in (await turn.locator(".now").text_content() or "")


async def test_the_time_of_the_work_counts_over_a_reload(browser: Browser) -> None:
    """From the message on, and not from the reload."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield Status(message="Working")
        await go_on.wait()
        yield "Done."

    go_on = asyncio.Event()
    async with serving(agent) as server, person(browser, server.port) as chat:
        turn = await chat.say("hello")
        await turn.locator(".now", has_text="Working").wait_for()
        await chat.page.clock.set_system_time(time.time() + 60)
        await chat.page.reload()
        await chat.connected()
        go_on.set()
        turn = chat.turns.first
        await chat.ended(turn, "completed")
        said = await turn.locator(".now").text_content() or ""
        assert said.startswith("Worked for 6"), said


async def test_suggestions_can_be_clicked(browser: Browser) -> None:
    """An agent's `suggestions` are buttons that send their words."""
    async with serving(demo) as server, person(browser, server.port) as chat:
        turn = await chat.say("format")
        await chat.ended(turn, "completed")
        await turn.get_by_role("button", name="Book a seat").click()
        assert "Book a seat" in (await chat.turns.nth(1).locator(".user").text_content() or "")


async def test_a_tool_that_the_page_does_not_have_is_refused(browser: Browser) -> None:
    """At once, so that the agent need not wait for nothing."""
    async with serving(lonely) as server, person(browser, server.port) as chat:
        turn = await chat.say("call")
        await chat.ended(turn, "completed")
        assert await turn.locator(".text").text_content() == "this page has no such tool"
