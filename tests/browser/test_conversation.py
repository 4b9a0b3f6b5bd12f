"""Talking, and cutting in."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from chat_page import person
from live_server import serving
from page_agents import chatter
from relay import relay

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_answer_is_shown_as_markdown(browser: Browser) -> None:
    """The message appears immediately; the answer is formatted."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("short")
        assert "short" in (await turn.locator(".user").text_content() or "")
        await chat.ended(turn, "completed")
        assert await turn.locator(".text strong").text_content() == "short"
        assert "Received" in (await turn.locator(".confirmed").text_content() or "")
        assert await turn.locator(".ended").text_content() == "3 words"
        assert chat.faults == []


async def test_a_skeleton_stands_where_the_answer_will_be(browser: Browser) -> None:
    """Until the first output, and not longer."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        silent = await chat.say("wait")
        await silent.locator(".skeleton").wait_for()
        turn = await chat.say("go")
        await chat.speaking(turn)
        assert await turn.locator(".skeleton").is_hidden()


@pytest.mark.parametrize("how", ["button", "escape", "typing"])
async def test_an_answer_can_be_cut(browser: Browser, how: str) -> None:
    """Button, Escape and a new message mark the cut and the heard text."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("talk")
        await chat.speaking(turn)
        if how == "button":
            await chat.page.click("#stop")
        elif how == "escape":
            await chat.page.keyboard.press("Escape")
        else:
            following = await chat.say("short")
            await chat.ended(following, "completed")
        await chat.ended(turn, "interrupted")
        assert await turn.locator(".cut").count() == 1
        outcome = await turn.locator(".ended").text_content() or ""
        assert outcome.startswith("You went on after " if how == "typing" else "Stopped after ")
        assert outcome.endswith(" ms")
        assert await chat.page.locator("#stop").is_hidden()
        assert chat.faults == []


async def test_the_server_knows_what_was_on_the_screen(browser: Browser) -> None:
    """The history of a cut answer equals the displayed text."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("fast")  # there is always something that came and is not drawn
        await chat.speaking(turn, 80)
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        shown = (await turn.locator(".text").text_content() or "").replace("✂", "").split()
        recalled = await chat.say("recall")
        await chat.ended(recalled, "completed")
        assert (await recalled.locator(".text").text_content() or "").split() == shown


async def test_a_protected_section_is_heard_to_its_end(browser: Browser) -> None:
    """A deferred interrupt withholds the text, then shows all of it."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("legal")
        await chat.speaking(turn)
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        shown = await turn.locator(".text").text_content() or ""
        assert shown.replace("✂", "").split() == [f"clause{number}" for number in range(60)]
        recalled = await chat.say("recall")
        await chat.ended(recalled, "completed")
        assert (await recalled.locator(".text").text_content() or "").split() == shown.replace(
            "✂", ""
        ).split()


async def test_inputs_wait_in_line(browser: Browser) -> None:
    """A message during a protected section waits and is answered after it."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        first = await chat.say("legal")
        await chat.speaking(first)
        second = await chat.say("short")
        await second.locator(".confirmed", has_text="next in line").wait_for()
        await chat.ended(second, "completed")
        assert "clause59" in (await first.locator(".text").text_content() or "")


async def test_a_new_conversation_begins_empty(browser: Browser) -> None:
    """Nothing of the old conversation returns, not even after a reload."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("talk")
        await chat.speaking(turn)
        await chat.page.click("#restart")
        assert await chat.turns.count() == 0
        turn = await chat.say("short")
        await chat.ended(turn, "completed")
        assert await chat.turns.count() == 1
        assert await chat.page.locator("#banner").is_hidden()
        await chat.page.reload()
        await chat.connected()
        assert await chat.turns.count() == 1
        assert chat.faults == []


async def test_what_is_said_before_the_line_is_up_waits_for_it(browser: Browser) -> None:
    """Shown immediately, and sent when there is a connection."""
    async with serving(chatter) as server, relay(server.port) as line, person(browser, line.port) as chat:
        line.target = 1
        line.cut()
        await chat.state("reconnecting")
        turn = await chat.say("short")
        await turn.locator(".confirmed", has_text="Sending").wait_for()
        line.target = server.port
        await chat.ended(turn, "completed")
