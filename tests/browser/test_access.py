"""Server with authentication."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from bargein_server import BearerTokens
from chat_page import ChatPage, person
from live_server import serving
from page_agents import chatter

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_token_is_asked_for(browser: Browser) -> None:
    """Asked until it is right; the tab keeps it over a reload, apart from the conversation."""
    async with serving(chatter, authenticator=BearerTokens({"secret": "ann"})) as server:
        page = await browser.new_page()
        try:
            chat = ChatPage(page, server.port)
            await page.goto(chat.origin)
            for token, words in (("wrong", "asks for a token"), ("secret", "is not accepted")):
                await chat.state("closed")
                await page.locator("#banner", has_text=words).wait_for()
                await page.get_by_label("Token").fill(token)
                await page.keyboard.press("Enter")
            await chat.connected()
            turn = await chat.say("short")
            await chat.ended(turn, "completed")
            await page.reload()
            assert "secret" not in str(await chat.kept())
            assert "secret" not in await page.evaluate("JSON.stringify({...localStorage})")
            await chat.connected()
            assert await chat.turns.count() == 1
            turn = await chat.say("recall")
            await chat.ended(turn, "completed")
            assert "short" in (await turn.locator(".text").text_content() or "")
        finally:
            await page.close()


async def test_a_full_server_says_so(browser: Browser) -> None:
    """The banner names the reason, and the button works when there is room."""
    async with serving(chatter, max_sessions=1) as server, person(browser, server.port) as chat:
        turn = await chat.say("talk")
        await chat.speaking(turn)
        page = await browser.new_page()
        try:
            other = ChatPage(page, server.port)
            await page.goto(other.origin)
            await other.state("closed")
            await page.locator("#banner", has_text="The server is full").wait_for()
            await chat.page.keyboard.press("Escape")
            await chat.ended(turn, "interrupted")
            await chat.page.close()
            await page.get_by_role("button", name="Try again").click()
            await other.connected()
        finally:
            await page.close()
