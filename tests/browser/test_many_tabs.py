"""Many tabs of one browser on event streams: six connections to a server over HTTP/1.1."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser, Page

from chat_page import ChatPage
from live_server import serving
from page_agents import chatter

pytestmark = pytest.mark.asyncio(loop_scope="session")

CONNECT = """async () => {
    const library = await import("/static/bargein/index.js");
    try {
        window.session = await library.connect("/", { transport: "sse" });
        return "open";
    } catch (error) {
        return [error.name, error.why];
    }
}"""
CUT = """async () => {
    const turn = session.send("talk");
    await turn.accepted();
    return (await turn.interrupt()).outcome;
}"""


async def test_a_tab_too_many_is_told_so_and_the_others_work(browser: Browser) -> None:
    """Four tabs have a stream; requests and pages still get through."""
    async with serving(chatter) as server:
        context = await browser.new_context()
        try:

            async def tab() -> Page:
                page = await context.new_page()
                await page.goto(f"http://127.0.0.1:{server.port}/healthz")
                return page

            tabs = [await tab() for _ in range(7)]
            for number, page in enumerate(tabs):
                result = await page.evaluate(CONNECT)
                if number < 4:
                    assert result == "open"
                else:
                    assert result[0] == "ConnectError"
                    assert "close one of them" in result[1]
            async with asyncio.timeout(5):
                cuts = await asyncio.gather(*(page.evaluate(CUT) for page in tabs[:4]))
            assert cuts == ["interrupted"] * 4
            await tabs[0].close()
            assert await tabs[4].evaluate(CONNECT) == "open"
            await tabs[1].evaluate("session.close()")
            assert await tabs[5].evaluate(CONNECT) == "open"
        finally:
            await context.close()


async def test_the_page_names_the_remedy(browser: Browser) -> None:
    """The fifth tab in a network without WebSockets asks to close another one, and works then."""
    async with serving(chatter) as server:
        context = await browser.new_context()
        await context.add_init_script(
            """{
                const Real = WebSocket;
                window.WebSocket = class extends Real {
                    constructor(url, ...rest) { super(url.replace("/v1/session", "/v1/blocked"), ...rest); }
                };
            }"""
        )
        try:
            chats = [await ChatPage(await context.new_page(), server.port).open() for _ in range(4)]
            fifth = ChatPage(await context.new_page(), server.port)
            await fifth.page.goto(fifth.origin + "/")
            await fifth.state("closed")
            await fifth.page.locator("#banner", has_text="Too many tabs").wait_for()
            await chats[0].page.close()
            await fifth.page.get_by_role("button", name="Try again").click()
            await fifth.connected()
        finally:
            await context.close()
