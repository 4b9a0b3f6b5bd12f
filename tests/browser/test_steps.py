"""Steps of an answer, announcements of it, and narrow screens."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Browser

from chat_page import person
from live_server import serving
from page_agents import narrator

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_statuses_take_any_icon_and_logs_are_steps(browser: Browser) -> None:
    """An emoji as it is, a known name as a drawing, anything else as a dot."""
    async with serving(narrator) as server, person(browser, server.port) as chat:
        turn = await chat.say("go")
        await chat.ended(turn, "completed")
        await turn.locator("summary").click()
        assert await turn.locator(".step .emoji").all_text_contents() == ["\U0001f9f3"]
        assert await turn.locator(".step svg").count() == 4
        assert await turn.locator(".log-line").all_text_contents() == ["cache is cold", "slow answer"]
        assert await turn.locator(".count").text_content() == "5 steps"


async def test_announcements_have_no_signs_of_markdown(browser: Browser) -> None:
    """A screen reader reads words, not asterisks."""
    async with serving(narrator) as server, person(browser, server.port) as chat:
        turn = await chat.say("go")
        await chat.ended(turn, "completed")
        await chat.page.wait_for_selector("#announcer p", state="attached")
        told = " ".join(await chat.page.locator("#announcer p").all_text_contents())
        assert "Some bold words, code, and a link." in told
        assert not set("*`#") & set(told)


async def test_a_window_at_400_percent_is_enough(browser: Browser) -> None:
    """Of a window of 1280 x 1024, more than half is conversation, and every action can be reached."""
    async with serving(narrator) as server, person(browser, server.port, size=(320, 256)) as chat:
        await chat.ended(await chat.say("go"), "completed")
        page = chat.page
        room = await page.evaluate("document.querySelector('#scroller').clientHeight / innerHeight")
        assert room > 0.5
        await page.fill("#message", "a long message of many words " * 20)
        assert await page.evaluate("document.querySelector('#scroller').clientHeight / innerHeight") > 0.3
        assert await page.evaluate("document.querySelector('#send').getBoundingClientRect().bottom") <= 256
        await page.fill("#message", "")
        for opener in ("#toggle-conversations", "#open-settings"):
            await page.click(opener)
            await page.keyboard.press("Escape")
        assert await page.evaluate("document.documentElement.scrollWidth") <= 320
        assert await page.evaluate("document.documentElement.scrollHeight") <= 256


async def test_a_very_narrow_screen_is_enough(browser: Browser) -> None:
    """320 pixels, as at 400 % zoom: nothing is cut off, and headings have an order."""
    async with serving(narrator) as server, person(browser, server.port, size=(320, 480)) as chat:
        turn = await chat.say("go")
        await chat.ended(turn, "completed")
        for opened in ("#open-settings", "#toggle-conversations"):
            await chat.page.click(opened)
            widths = await chat.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert widths[0] <= widths[1]
            await chat.page.keyboard.press("Escape")
        right = await chat.page.evaluate(
            "document.querySelector('#toggle-inspector').getBoundingClientRect().right"
        )
        assert right <= 320
        levels = json.loads(
            await chat.page.evaluate(
                "JSON.stringify([...document.querySelectorAll('h1, h2, h3')]"
                ".filter((h) => h.checkVisibility()).map((h) => h.localName))"
            )
        )
        assert levels == ["h1", "h2", "h3"]
