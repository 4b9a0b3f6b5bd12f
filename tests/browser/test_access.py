"""Server with authentication."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from bargein_server import AccessRequest, BearerTokens, PageConfiguration, Principal
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


async def test_an_application_with_a_login_of_its_own(browser: Browser) -> None:
    """A link to it in place of a question for a token; after the login the page connects."""

    async def by_cookie(request: AccessRequest) -> Principal | None:
        return Principal("ann") if request.cookies.get("login") == "secret" else None

    look = PageConfiguration(login="/login")
    async with serving(chatter, authenticator=by_cookie, page=look) as server:
        context = await browser.new_context()
        try:
            chat = ChatPage(await context.new_page(), server.port)
            await chat.page.goto(chat.origin)
            await chat.state("closed")
            link = chat.page.locator("#banner").get_by_role("link", name="Log in")
            assert await link.get_attribute("href") == "/login"
            assert await chat.page.get_by_label("Token").count() == 0
            await context.add_cookies([{"name": "login", "value": "secret", "url": chat.origin}])
            await chat.page.get_by_role("button", name="Try again").click()
            await chat.connected()
            assert await link.count() == 0 or await link.is_hidden()
        finally:
            await context.close()


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
