"""The JavaScript client in a real browser, without the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page

from bargein_server import BearerTokens
from live_server import Serving, serving
from page_agents import chatter

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRANSPORTS = ["websocket", "sse"]
TALK_AND_CUT = """async (options) => {
    const session = await library.connect("/", options);
    const turn = session.send("talk");
    turn.on("*", () => {});  // without a reader, what the socket took would count as heard
    while (turn.text.length < 50) await new Promise((resolve) => setTimeout(resolve, 5));
    const shown = turn.text;
    const { outcome, heard } = await turn.interrupt({ reason: "barge_in" });
    const { reason } = await turn.ended();
    const next = session.send("short");
    for await (const event of next);
    await session.close();
    return [outcome, reason, heard.text === shown, next.text, session.state.name];
}"""
CUT = ["interrupted", "barge_in", True, "A **short** answer.", "closed"]
TICKET = """{
    ticket: async () => {
        const headers = { Authorization: "Bearer ann-secret" };
        const answer = await fetch("/v1/tickets", { method: "POST", headers });
        return (await answer.json()).ticket;
    },
}"""


@asynccontextmanager
async def blank_page(browser: Browser, server: Serving) -> AsyncIterator[Page]:
    """Open an empty page of the server's origin with the library."""
    page = await browser.new_page()
    try:
        await page.goto(f"http://127.0.0.1:{server.port}/healthz")
        await page.evaluate("async () => { window.library = await import('/static/bargein/index.js'); }")
        yield page
    finally:
        await page.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_interrupt_in_the_middle(browser: Browser, transport: str) -> None:
    """The delivered text is the heard text, on both transports."""
    async with serving(chatter) as server, blank_page(browser, server) as page:
        assert await page.evaluate(TALK_AND_CUT, {"transport": transport}) == CUT


async def test_where_no_socket_opens_an_event_stream_does(browser: Browser) -> None:
    """A proxy that blocks WebSockets does no harm."""
    async with serving(chatter) as server, blank_page(browser, server) as page:
        await page.evaluate(
            """() => {
                const Real = WebSocket;
                window.WebSocket = class extends Real {
                    constructor(url, ...rest) { super(url.replace("/v1/session", "/v1/blocked"), ...rest); }
                };
            }"""
        )
        assert await page.evaluate(TALK_AND_CUT, {}) == CUT


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_ticket_lets_a_page_in(browser: Browser, transport: str) -> None:
    """A ticket admits the socket, the stream and its later requests."""
    tokens = BearerTokens({"ann-secret": "ann"})
    async with serving(chatter, authenticator=tokens) as server, blank_page(browser, server) as page:
        talk = f"({TALK_AND_CUT})({{ ...{TICKET}, transport: '{transport}' }})"
        assert await page.evaluate(talk) == CUT
        refused = "library.connect('/').catch((error) => [error.name, error.code.name])"
        assert await page.evaluate(refused) == ["ConnectError", "unauthorized"]


async def test_a_device_that_comes_back_asks_its_line(browser: Browser) -> None:
    """`offline`, `online` and visibility cause a ping."""
    async with serving(chatter) as server, blank_page(browser, server) as page:
        pinged = """async () => {
            const session = await library.connect("/");
            let pongs = 0;
            session.on("pong", () => { pongs += 1; });
            window.dispatchEvent(new Event("offline"));
            window.dispatchEvent(new Event("online"));
            document.dispatchEvent(new Event("visibilitychange"));
            while (pongs < 3) await new Promise((resolve) => setTimeout(resolve, 5));
            return session.state.name;
        }"""
        assert await page.evaluate(pinged) == "open"
