"""A browser's own WebSocket as a client of the Realtime door, with its key in the subprotocol."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Error, Page, async_playwright

from bargein_server import BearerTokens
from chat_page import launch
from door_agent import play
from live_server import Serving, serving
from realtime_client import text_of
from sse_client import http
from waiting import WAIT_S, until

TOKENS = BearerTokens({"secret": "ann"})

CLIENT = """
globalThis.open = (url, key) => new Promise((resolve, reject) => {
    globalThis.events = [];
    globalThis.socket = new WebSocket(url, ["realtime", `openai-insecure-api-key.${key}`]);
    socket.onmessage = ({ data }) => events.push(JSON.parse(data));
    socket.onopen = () => resolve(socket.protocol);
    socket.onerror = () => reject(new Error("refused"));
});
globalThis.send = (event) => socket.send(JSON.stringify(event));
globalThis.say = (text) => {
    const content = [{ type: "input_text", text }];
    send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
    send({ type: "response.create" });
};
globalThis.all = (type) => events.filter((event) => event.type === type);
globalThis.text = () => all("response.output_text.delta").map(({ delta }) => delta).join("");
"""


class Tab:
    """A page with a connection."""

    def __init__(self, page: Page, server: Serving) -> None:
        self.page = page
        self.server = server
        self.url = f"ws://127.0.0.1:{server.port}/v1/realtime?conversation=mine"
        self.responses = 0

    async def connect(self) -> str:
        """Connect with a fresh key of the page's server; return the subprotocol."""
        async with http(self.server) as client:
            path, token = "/v1/realtime/client_secrets", {"Authorization": "Bearer secret"}
            secret = (await client.post(path, {"session": {"type": "realtime"}}, token)).json()
        chosen: str = await self.page.evaluate("([url, key]) => open(url, key)", [self.url, secret["value"]])
        self.responses = 0
        return chosen

    async def wait(self, condition: str) -> None:
        """Wait until an expression of the page is true."""
        await self.page.wait_for_function(condition)

    async def done(self) -> Any:
        """Return the next response that is done."""
        self.responses += 1
        await self.wait(f"all('response.done').length >= {self.responses}")
        return await self.page.evaluate(f"all('response.done')[{self.responses - 1}].response")


@asynccontextmanager
async def opened() -> AsyncIterator[Tab]:
    """Serve the agent, and open a page of its origin."""
    async with (
        serving(play, doors=["realtime"], authenticator=TOKENS) as server,
        async_playwright() as playwright,
    ):
        browser = await launch(playwright)
        page = await browser.new_page()
        page.set_default_timeout(WAIT_S * 1000)

        # A page that a test makes up is none of this machine: its connections to it would be blocked.
        await page.goto(f"http://127.0.0.1:{server.port}/healthz")
        await page.evaluate(f"() => {{{CLIENT}}}")
        try:
            yield Tab(page, server)
        finally:
            await browser.close()


async def test_a_browser() -> None:
    """A turn, an interrupted one, a function of the page, and a lost line."""
    async with opened() as tab:
        assert await tab.connect() == "realtime"
        await tab.page.evaluate("say('hello')")
        assert text_of(await tab.done()) == "You said hello."

        await tab.page.evaluate("say('count')")
        await tab.wait("text().includes('5')")
        took = await tab.page.evaluate(
            """async () => {
                const began = performance.now();
                send({ type: "response.cancel" });
                const tick = () => new Promise((resolve) => setTimeout(resolve, 1));
                while (all("response.done").length < 2) await tick();
                return performance.now() - began;
            }"""
        )
        assert took < 1000
        cut = await tab.done()
        assert cut["status"] == "cancelled"

        await tab.page.evaluate("say('locate me')")
        call = (await tab.done())["output"][-1]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "Oslo"}
        await tab.page.evaluate("send", {"type": "conversation.item.create", "item": output})
        await tab.page.evaluate("send", {"type": "response.create"})
        assert text_of(await tab.done()) == "You are in Oslo."

        await tab.page.evaluate("say('count')")
        await tab.wait("text().endsWith('3 ')")
        await tab.page.evaluate("socket.close()")
        [host] = list(tab.server.sessions)
        await until(lambda: host.connection is None, "the end of the connection")
        await tab.connect()
        await tab.page.evaluate("say('recall')")
        messages = json.loads(text_of(await tab.done()))
        assert [each["content"] for each in messages if each["role"] == "user"] == [
            "hello", "count", "locate me", "count",
        ]  # fmt: skip
        assert messages[3]["content"] == f"{text_of(cut)}[interrupted]"


async def test_a_wrong_key() -> None:
    """The handshake fails; a page sees no more than that."""
    async with opened() as tab:
        with pytest.raises(Error, match="refused"):
            await tab.page.evaluate("([url]) => open(url, 'ek_wrong')", [tab.url])
