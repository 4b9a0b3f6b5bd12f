"""The list of conversations: of this browser, and of the server's store."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from bargein_server import BearerTokens
from chat_page import ChatPage, person
from live_server import serving
from page_agents import counter

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEPT = "JSON.stringify({...localStorage, ...sessionStorage})"
TITLES = "() => document.querySelectorAll('.conversation .title').length"


async def titles(chat: ChatPage, count: int) -> list[str]:
    """Return the listed titles, once there are so many."""
    await chat.page.wait_for_function(f"{TITLES} === {count}")
    return await chat.page.locator(".conversation .title").all_text_contents()


async def login(chat: ChatPage, token: str) -> None:
    """Enter a token."""
    await chat.page.get_by_label("Token").fill(token)
    await chat.page.keyboard.press("Enter")
    await chat.connected()


async def test_conversations_of_this_browser(browser: Browser) -> None:
    """Begin another, come back, go on where it was; search, rename and delete."""
    async with serving(counter) as server, person(browser, server.port) as chat:
        page = chat.page
        await page.click("#toggle-conversations")
        assert await page.locator("#no-conversations").text_content() == "Conversations appear here."
        await chat.ended(await chat.say("first talk"), "completed")
        await page.click("#restart")
        await chat.connected()
        assert await chat.turns.count() == 0
        await chat.ended(await chat.say("second talk"), "completed")
        assert await titles(chat, 2) == ["second talk", "first talk"]
        await page.locator(".conversation .open", has_text="first talk").click()
        await page.locator(".turn .user", has_text="first talk").wait_for()
        await chat.connected()
        turn = await chat.say("more")
        await chat.ended(turn, "completed")
        assert await turn.locator(".text").text_content() == "more after 2"
        await page.get_by_role("button", name="Rename second talk").click()
        await page.get_by_label("Title", exact=True).fill("The other one")
        await page.keyboard.press("Enter")
        await page.locator(".conversation .title", has_text="The other one").wait_for()
        await page.fill("#conversation-search", "OTHER")
        assert await titles(chat, 1) == ["The other one"]
        await page.fill("#conversation-search", "nowhere")
        await page.locator("#no-conversations", has_text="No conversation has this").wait_for()
        await page.fill("#conversation-search", "")
        await page.get_by_role("button", name="Delete The other one").click()
        await page.get_by_role("button", name="Delete", exact=True).click()
        assert await titles(chat, 1) == ["first talk"]
        await page.reload()
        await chat.connected()
        assert await titles(chat, 1) == ["first talk"]
        assert await chat.turns.count() == 2
        assert chat.faults == []


async def test_the_displayed_conversation_is_deleted(browser: Browser) -> None:
    """It is gone for good, and an empty one stands in its place."""
    async with serving(counter) as server, person(browser, server.port) as chat:
        await chat.page.click("#toggle-conversations")
        await chat.ended(await chat.say("secret"), "completed")
        await titles(chat, 1)
        await chat.page.get_by_role("button", name="Delete secret").click()
        await chat.page.get_by_role("button", name="Delete", exact=True).click()
        await titles(chat, 0)
        await chat.connected()
        assert await chat.turns.count() == 0
        assert "secret" not in await chat.page.evaluate(KEPT)


async def test_stored_conversations_of_a_user(browser: Browser, tmp_path: Path) -> None:
    """Another browser of the user lists them with their names, opens one, and goes on with it."""
    tokens = BearerTokens({"a": "ann", "b": "bob"})
    store = f"sqlite:///{tmp_path}/kept.db"
    async with serving(counter, authenticator=tokens, store=store) as server:
        for number, token in enumerate(("a", "a", "b")):
            context = await browser.new_context(viewport={"width": 1200, "height": 800})
            chat = ChatPage(await context.new_page(), server.port)
            await chat.page.goto(chat.origin)
            await login(chat, token)
            await chat.page.click("#toggle-conversations")
            if number == 1:
                assert await titles(chat, 1) == ["A greeting"]
                await chat.page.locator(".conversation .open").click()
                await chat.page.locator(".turn .user", has_text="hello from ann").wait_for()
                await chat.ended(chat.turns.first, "completed")
                turn = await chat.say("again")
                await chat.ended(turn, "completed")
                assert await turn.locator(".text").text_content() == "again after 2"
            elif number == 0:
                await chat.ended(await chat.say("hello from ann"), "completed")
                await chat.page.get_by_role("button", name="Rename hello from ann").click()
                await chat.page.get_by_label("Title", exact=True).fill("A greeting")
                async with chat.page.expect_response(
                    lambda answer: answer.request.method == "PATCH"
                ) as named:
                    await chat.page.keyboard.press("Enter")
                assert (await named.value).status == 204
                await chat.page.locator(".conversation .title", has_text="A greeting").wait_for()
            else:
                await chat.page.locator("#no-conversations", has_text="appear here").wait_for()
            await context.close()


async def test_logging_out_forgets_everything(browser: Browser) -> None:
    """The token and the conversations leave the browser."""
    async with serving(counter, authenticator=BearerTokens({"sesame": "ann"})) as server:
        context = await browser.new_context()
        chat = ChatPage(await context.new_page(), server.port)
        await chat.page.goto(chat.origin)
        await login(chat, "sesame")
        await chat.ended(await chat.say("hello"), "completed")
        await chat.page.reload()
        await chat.connected()  # the tab keeps the token
        await chat.page.click("#open-settings")
        await chat.page.get_by_role("button", name="Log out").click()
        await chat.page.get_by_label("Token").wait_for()
        assert await chat.turns.count() == 0
        kept = await chat.page.evaluate(KEPT)
        assert "sesame" not in kept
        assert "hello" not in kept
        await context.close()
