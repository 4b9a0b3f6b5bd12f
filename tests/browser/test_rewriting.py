"""Asking again, editing the last message, copying an answer."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Locator

from chat_page import ChatPage, person
from live_server import serving
from page_agents import counter, formatter

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def answer(chat: ChatPage, turn: Locator) -> str:
    """Return the text of an answer that has ended."""
    await chat.ended(turn, "completed")
    return await turn.locator(".text").text_content() or ""


async def test_an_answer_is_asked_for_again(browser: Browser) -> None:
    """The new answer replaces the old one, also in the history and after a reload."""
    async with serving(counter) as server, person(browser, server.port) as chat:
        assert await answer(chat, await chat.say("one")) == "one after 0"
        second = await chat.say("two")
        assert await answer(chat, second) == "two after 2"
        old = await second.element_handle()
        await second.get_by_role("button", name="Regenerate").click()
        await old.wait_for_element_state("hidden")
        await chat.page.wait_for_function("() => document.querySelectorAll('.turn').length === 2")
        assert await answer(chat, chat.turns.nth(1)) == "two after 2"
        assert await chat.page.get_by_role("button", name="Regenerate").count() == 1
        await chat.page.reload()
        await chat.connected()
        assert await chat.turns.count() == 2
        assert await answer(chat, await chat.say("three")) == "three after 4"
        assert chat.faults == []


async def test_the_last_message_is_edited(browser: Browser) -> None:
    """Escape leaves it as it is; Enter sends the edited one in its place, also during the answer."""
    async with serving(counter) as server, person(browser, server.port) as chat:
        turn = await chat.say("wait")
        await chat.speaking(turn)
        await turn.get_by_role("button", name="Edit this message").click()
        field = chat.page.get_by_label("Edited message")
        assert await field.input_value() == "wait"
        await field.press("Escape")
        assert await turn.get_attribute("data-status") is None
        assert await chat.page.evaluate("document.activeElement.textContent") == "Edit"
        await turn.get_by_role("button", name="Edit this message").click()
        await field.fill("better")
        await field.press("Enter")
        await chat.page.locator(".turn .user", has_text="better").wait_for()
        await chat.page.wait_for_function("() => document.querySelectorAll('.turn').length === 1")
        assert await answer(chat, chat.turns.first) == "better after 0"
        assert chat.faults == []


async def test_a_protected_answer_stays(browser: Browser) -> None:
    """The server refuses to drop it, so it is shown again, and the new message follows it."""
    async with serving(counter) as server, person(browser, server.port) as chat:
        turn = await chat.say("legal")
        await chat.speaking(turn, 18)
        await turn.get_by_role("button", name="Edit this message").click()
        await chat.page.get_by_label("Edited message").fill("better")
        await chat.page.keyboard.press("Enter")
        await chat.ended(chat.turns.nth(1), "completed")
        assert await chat.turns.count() == 2
        assert await turn.is_visible()
        assert "protected" in (await turn.locator(".text").text_content() or "")


async def test_an_answer_is_copied_as_markdown(browser: Browser) -> None:
    """The clipboard has the source, not the formatted text."""
    context = await browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    try:
        async with serving(formatter) as server, person(browser, server.port, context=context) as chat:
            turn = await chat.say("format")
            await chat.ended(turn, "completed")
            await turn.get_by_role("button", name="Copy this answer").click()
            await turn.get_by_text("Copied").wait_for()
            text = await chat.page.evaluate("navigator.clipboard.readText()")
            assert text.startswith("- [x] done\n")
            assert r"\boxed{" in text
    finally:
        await context.close()
