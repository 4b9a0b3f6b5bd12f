"""A page with the AI SDK's `useChat`, bundled as it is, in a real browser."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Page, Route, async_playwright

from bargein_server.transport.connection import Connection
from chat_page import launch
from door_agent import play
from live_server import Serving, serving
from waiting import WAIT_S, until

FOLDER = Path(__file__).parent
HEAD = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,">'
HTML = f'{HEAD}<body><script src="/app.js"></script>'


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the script of the page."""
    file = tmp_path_factory.mktemp("page") / "app.js"
    subprocess.run(
        ["node_modules/.bin/esbuild", "use_chat.jsx", "--bundle", "--jsx=automatic",
         "--log-level=error", f"--outfile={file}"],
        cwd=FOLDER, check=True,
    )  # fmt: skip
    return file.read_text("utf-8")


@asynccontextmanager
async def opened(bundle: str) -> AsyncIterator[tuple[Serving, Page]]:
    """Serve the agent, and open the page at its origin."""
    async with serving(play, doors=["ai-sdk"]) as server, async_playwright() as playwright:
        browser = await launch(playwright)
        page = await browser.new_page()
        page.set_default_timeout(WAIT_S * 1000)

        async def page_of(route: Route) -> None:
            await route.fulfill(content_type="text/html", body=HTML)

        async def script(route: Route) -> None:
            await route.fulfill(content_type="text/javascript", body=bundle)

        await page.route("**/app.html", page_of)
        await page.route("**/app.js", script)
        await page.goto(f"http://127.0.0.1:{server.port}/app.html")
        try:
            yield server, page
        finally:
            await browser.close()


async def say(page: Page, text: str) -> None:
    await page.fill("input", text)
    await page.press("input", "Enter")


async def test_a_chat(bundle: str) -> None:
    """A turn, a tool with consent, a stop, and a reload in the middle of an answer."""
    async with opened(bundle) as (server, page):
        await say(page, "hello")
        await page.get_by_text("You said hello.").wait_for()
        await say(page, "buy")
        await page.get_by_role("button", name="Allow").click()
        await page.get_by_text("Done.").wait_for()
        await page.locator("#status", has_text="ready").wait_for()
        await say(page, "count")
        await page.get_by_text("1 2 3 4 5").wait_for()
        await page.click("#stop")
        [host] = list(server.sessions)
        async with asyncio.timeout(1):
            await until(lambda: not host.core.busy, "the interrupt")
        await page.locator("#status", has_text="ready").wait_for()
        shown = await page.locator("p.assistant .text").last.inner_text()
        await say(page, "recall")
        await page.get_by_text("[interrupted]").wait_for()
        [*_, cut] = host.core.side_channel.messages()[:-2]
        assert str(cut["content"]).startswith(shown.strip()[:20])


async def test_a_reload_resumes(bundle: str) -> None:
    """The running answer is read from its first chunk."""
    async with opened(bundle) as (server, page):
        await say(page, "count")
        await page.get_by_text("1 2 3 4 5").wait_for()
        await page.goto("about:blank")
        await page.goto(f"http://127.0.0.1:{server.port}/app.html#resume")
        await page.get_by_text("1 2 3 4 5").wait_for()
        await page.click("#stop")
        await page.locator("#status", has_text="ready").wait_for()
        numbers = (await page.locator("p.assistant .text").last.inner_text()).split()
        assert numbers == [str(n) for n in range(1, len(numbers) + 1)]


async def test_a_tool_of_the_page(bundle: str) -> None:
    """The page runs it, sends its output by itself, and the turn goes on."""
    async with opened(bundle) as (server, page):
        await say(page, "locate me")
        await page.get_by_text("You are in Oslo.").wait_for()
        await page.locator("#status", has_text="ready").wait_for()
        [host] = list(server.sessions)
        assert not host.core.busy
        await say(page, "hello")
        await page.get_by_text("You said hello.").wait_for()


async def test_a_lost_line(bundle: str) -> None:
    """The answer goes on without its reader, who finds it again from its first chunk."""
    async with opened(bundle) as (server, page):
        await say(page, "count")
        await page.get_by_text("1 2 3 4 5").wait_for()
        [host] = list(server.sessions)
        assert isinstance(host.connection, Connection)
        host.connection.wire.abort()
        await page.locator("#status", has_text="error").wait_for()
        assert host.core.busy
        await page.click("#resume")
        await page.locator("#status", has_text="streaming").wait_for()
        await page.click("#stop")
        await page.locator("#status", has_text="ready").wait_for()
        numbers = (await page.locator("p.assistant .text").last.inner_text()).split()
        assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
