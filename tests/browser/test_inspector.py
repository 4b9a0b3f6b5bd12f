"""The drawer with the events."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from chat_page import ChatPage, person
from live_server import serving
from page_agents import chatter, flood

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def types(chat: ChatPage) -> list[str]:
    """Return the types of the events in sight."""
    return await chat.page.locator(".row .type").all_text_contents()


async def test_every_event_is_there_with_its_number(browser: Browser) -> None:
    """All sent and received events in order."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("short")
        await chat.ended(turn, "completed")
        await chat.page.click("#toggle-inspector")
        await chat.page.locator(".row").first.wait_for()
        assert await types(chat) == [
            "session.open", "session.opened", "input.text", "input.accepted", "turn.started", "text.delta",
            "turn.ended",
        ]  # fmt: skip
        ways = await chat.page.locator(".row").evaluate_all("rows => rows.map((row) => row.dataset.way)")
        assert ways == ["up", "down", "up", "down", "down", "down", "down"]
        assert await chat.page.locator(".row .seq").all_text_contents() == ["", "", "", "1", "2", "3", "4"]


async def test_events_can_be_filtered_and_read(browser: Browser) -> None:
    """By kind and by words; arrows choose one, and it is shown whole."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("short")
        await chat.ended(turn, "completed")
        await chat.page.click("#toggle-inspector")
        await chat.page.get_by_label("Session").uncheck()
        await chat.page.get_by_label("Turns").uncheck()
        await chat.page.locator(".row").first.wait_for()
        await chat.page.wait_for_function("() => document.querySelectorAll('.row').length === 1")
        assert await types(chat) == ["text.delta"]
        await chat.page.get_by_label("Turns").check()
        await chat.page.fill("#event-search", "accepted")
        await chat.page.wait_for_function("() => document.querySelectorAll('.row').length === 1")
        await chat.page.focus("#events")
        await chat.page.keyboard.press("ArrowUp")
        await chat.page.locator("#event-detail", has_text='"type": "input.accepted"').wait_for()


async def test_an_interrupt_is_a_picture(browser: Browser) -> None:
    """The timeline has a text for screen readers."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("talk")
        await chat.speaking(turn)
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        await chat.page.click("#toggle-inspector")
        label = await chat.page.locator("#timeline svg").get_attribute("aria-label") or ""
        assert all(f"{name} at " in label for name in ("asked", "silent", "fenced", "ended"))


@pytest.mark.alone  # two thousand events are drawn within the patience of one
async def test_the_list_is_bounded(browser: Browser) -> None:
    """The last 2,000 events are kept, and only those in sight are drawn."""
    async with serving(flood) as server, person(browser, server.port) as chat:
        turn = await chat.say("go")
        await chat.ended(turn, "completed")
        await chat.page.click("#toggle-inspector")
        count = chat.page.locator("#event-count")
        await count.filter(has_text="2000 of ").wait_for()  # a slow page gets pieces that were joined
        assert await chat.page.locator(".row").count() < 80
        assert "turn.ended" in await types(chat)
