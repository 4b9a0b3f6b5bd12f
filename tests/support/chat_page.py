"""A person at the chat page, in a real browser."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

from playwright.async_api import Browser, BrowserContext, Locator, Page, Playwright

from machine import find_chromium
from waiting import WAIT_S

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]


async def launch(playwright: Playwright) -> Browser:
    """Start the browser of the system."""
    return await playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)


class ChatPage:
    """Chat page in a tab of a real browser.

    Attributes:
        page: The tab.
        faults: What the page's console and policy complained of.
        strangers: Requests that left the page's own origin.
    """

    def __init__(self, page: Page, port: int) -> None:
        self.page = page
        self.origin = f"http://127.0.0.1:{port}"
        self.faults: list[str] = []
        self.strangers: list[str] = []
        page.set_default_timeout(WAIT_S * 1000)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        if not url.startswith((self.origin, "data:")):
            self.strangers.append(url)

    async def open(self) -> ChatPage:
        """Go to the page and wait until it is connected."""
        await self.page.goto(self.origin + "/")
        await self.connected()
        return self

    async def connected(self) -> None:
        """Wait until the session is open."""
        await self.state("open")

    async def state(self, name: str) -> None:
        """Wait for a state of the connection."""
        await self.page.wait_for_selector(f"#connection[data-state={name}]")

    async def say(self, text: str) -> Locator:
        """Type and send; returns the exchange."""
        await self.page.fill("#message", text)
        count = await self.turns.count()
        await self.page.press("#message", "Enter")
        turn = self.turns.nth(count)
        await turn.wait_for()
        return turn

    @property
    def turns(self) -> Locator:
        """The exchanges, oldest first."""
        return self.page.locator(".turn")

    async def ended(self, turn: Locator, status: str) -> None:
        """Wait for the end of an exchange."""
        await turn.and_(self.page.locator(f"[data-status={status}]")).wait_for()

    async def speaking(self, turn: Locator, chars: int = 10) -> None:
        """Wait until an answer has begun to be shown."""
        await self.page.wait_for_function(
            "([turn, chars]) => (turn.querySelector('.body')?.textContent ?? '').length >= chars",
            arg=[await turn.element_handle(), chars],
        )

    async def kept(self) -> dict[str, Any]:
        """Return the state that the tab keeps over a reload."""
        text = await self.page.evaluate("sessionStorage.getItem('bargein.page.v1')")
        return dict(json.loads(text)) if text else {}


@asynccontextmanager
async def person(
    browser: Browser,
    port: int,
    *,
    size: tuple[int, int] = (1200, 800),
    scheme: Literal["light", "dark"] = "light",
    context: BrowserContext | None = None,
) -> AsyncIterator[ChatPage]:
    """Open the page in a new tab, of a fresh profile or of a given one."""
    own = context is None
    if context is None:
        width, height = size
        context = await browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="no-preference"
        )
    try:
        chat = ChatPage(await context.new_page(), port)
        yield await chat.open()
        assert chat.strangers == []
    finally:
        if own:
            await context.close()
