"""A browser's own `EventSource` follows a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from bargein_server import Output, Turn
from live_server import serving
from relay import relay
from waiting import WAIT_S

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOLLOW = """async () => {
    const body = JSON.stringify({text: 'hello'});
    const headers = {'Content-Type': 'application/json', 'Bargein-Cookie': '/'};
    const turn = await fetch('/v1/turns', {method: 'POST', headers, body});
    const session = turn.headers.get('Bargein-Session');
    window.seen = [];
    window.opened = 0;
    window.source = new EventSource(`/v1/sessions/${session}/events`);
    source.onopen = () => { opened += 1; };
    source.addEventListener('text.delta', (event) => {
        seen.push([JSON.parse(event.data).text, event.lastEventId]);
    });
    return document.cookie;
}"""


async def steady(turn: Turn) -> AsyncIterator[Output]:
    """Yield a word every few milliseconds."""
    number = 0
    while True:
        number += 1
        yield f"word{number} "
        await asyncio.sleep(0.005)


async def test_it_follows_by_cookie_and_mends_its_line(browser: Browser) -> None:
    """No secret in a URL or a script; a cut loses and doubles no word."""
    async with serving(steady, away_s=30.0) as server, relay(server.port) as line:
        context = await browser.new_context()
        try:
            page = await context.new_page()
            page.set_default_timeout(2 * WAIT_S * 1000)
            urls: list[str] = []
            page.on("request", lambda request: urls.append(request.url))
            await page.goto(f"http://127.0.0.1:{line.port}/healthz")
            assert await page.evaluate(FOLLOW) == ""
            await page.wait_for_function("seen.length > 20")
            line.cut()
            await page.wait_for_function("opened === 2 && seen.length > 200")
            seen = await page.evaluate("seen")
            texts = [text.strip() for text, _ in seen]
            joined = " ".join(texts).split()  # words that nobody took at once come merged
            assert joined == [f"word{number}" for number in range(1, len(joined) + 1)]
            assert all(cursor.rpartition(".")[2].isdecimal() for _, cursor in seen)
            assert [url for url in urls if "?" in url] == []
        finally:
            await context.close()
