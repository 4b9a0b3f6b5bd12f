"""Tabs that sleep, are frozen or stored, and clocks that are set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from bargein_server import Output, Turn
from devtools import Browser, Tab, chromium
from live_server import Serving, serving
from page_agents import chatter
from relay import Relay, relay
from waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

TRANSPORTS = ["websocket", "sse"]
PLACE = "/static/bargein/backoff.js"  # a document that may be stored, unlike those with `no-store`
TALK = """(async (transport) => {
    const { connect } = await import("/static/bargein/index.js");
    window.seen = { words: "", opened: 0, states: [], pongs: 0, notices: [] };
    for (const name of ["pagehide", "pageshow"])
        addEventListener(name, (event) => seen.notices.push([name, event.persisted]));
    for (const name of ["freeze", "resume"])
        document.addEventListener(name, () => seen.notices.push([name, true]));
    await connect("/", { transport, onSession: (session) => {
        window.session = session;
        session.on("event", ({ type }) => { seen.opened += type === "session.opened"; });
        session.on("state", ({ name }) => seen.states.push(name));
        session.on("pong", () => { seen.pongs += 1; });
        session.on("text.delta", ({ text }) => { seen.words += text; });
    } });
    session.send("talk");
})"""


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A browser whose tabs can be hidden."""
    async with chromium() as browser:
        yield browser


class Talk:
    """A tab whose session listens to an endless answer.

    Attributes:
        spoken: Number of words that the agent has yielded.
    """

    spoken = 0

    def __init__(self, server: Serving, line: Relay, tab: Tab) -> None:
        self.server = server
        self.line = line
        self.tab = tab
        self.url = f"http://127.0.0.1:{line.port}{PLACE}"

    async def more(self, chars: int = 200) -> None:
        """Wait until the answer has grown."""
        length = await self.tab.run("seen.words.length")
        await self.tab.until(f"seen.words.length >= {length + chars}")

    async def assert_whole(self, connections: int) -> None:
        """No word is missing or comes twice; so many connections were made, for one session."""
        await self.more()
        words = (await self.tab.run("seen.words")).split()
        assert words == [f"word{number}" for number in range(1, len(words) + 1)]
        assert await self.tab.run("[seen.opened, session.state.name]") == [connections, "open"]
        assert len(self.server.sessions) == 1


@asynccontextmanager
async def talk(browser: Browser, transport: str, heartbeat_s: float = 15.0) -> AsyncIterator[Talk]:
    async def agent(turn: Turn) -> AsyncIterator[Output]:
        async for word in chatter(turn):
            talking.spoken += 1
            yield word

    async with serving(agent, heartbeat_s=heartbeat_s) as server, relay(server.port) as line:
        tab = await browser.open(f"http://127.0.0.1:{line.port}{PLACE}")
        try:
            talking = Talk(server, line, tab)
            await tab.run(f"{TALK}('{transport}')")
            await talking.more()
            yield talking
        finally:
            await tab.close()


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_frozen_tab_resumes_at_once(browser: Browser, transport: str, cut: bool) -> None:
    """The session stays attached while the tab is frozen; its connection is renewed without a delay."""
    async with talk(browser, transport, heartbeat_s=60.0) as talking:
        (host,) = talking.server.sessions
        await talking.tab.freeze()
        length, number = await talking.tab.run("seen.words.length"), talking.spoken
        await until(lambda: talking.spoken > number + 100, "a second of the answer")
        assert await talking.tab.run("seen.words.length") == length  # it does not run
        assert host.connection is not None
        if cut:
            talking.line.cut()
        thawed_at = asyncio.get_running_loop().time()
        await talking.tab.thaw()
        await talking.tab.until("seen.opened === 2")
        assert asyncio.get_running_loop().time() - thawed_at < 2.5  # a ping without an answer takes 3 s
        await talking.assert_whole(connections=2)
        assert await talking.tab.run("seen.notices") == [["freeze", True], ["resume", True]]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stored_page_closes_its_connection_and_resumes(browser: Browser, transport: str) -> None:
    """The back/forward cache takes the page; the server knows that nobody reads."""
    async with talk(browser, transport) as talking:
        (host,) = talking.server.sessions
        await talking.tab.go(f"http://localhost:{talking.line.port}/healthz")
        await until(lambda: host.connection is None, "the end of the connection")
        await talking.tab.back(talking.url)
        await talking.tab.until("seen.opened === 2")
        await talking.assert_whole(connections=2)
        notices = await talking.tab.run("seen.notices")
        assert [notice for notice in notices if notice[0].startswith("page")] == [
            ["pagehide", True],
            ["pageshow", True],
        ]
        assert await talking.tab.run("seen.states") == ["open", "reconnecting", "open"]


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_browser_that_stood_still_goes_on(browser: Browser, transport: str, cut: bool) -> None:
    """A connection that outlived the sleep is used, one that broke is renewed."""
    async with talk(browser, transport, heartbeat_s=0.5) as talking:
        with browser.asleep():
            number = talking.spoken
            await until(lambda: talking.spoken > number + 150, "more silence than is allowed")
            if cut:
                talking.line.cut()
        if cut:  # words that had arrived before the cut are shown first
            await talking.tab.until("seen.opened === 2")
        await talking.assert_whole(connections=2 if cut else 1)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_device_that_slept_goes_on(browser: Browser, transport: str) -> None:
    """An hour in which no timer fires, and then all of them, costs a ping."""
    async with talk(browser, transport, heartbeat_s=0.5) as talking:
        await talking.tab.run("{ const now = Date.now; Date.now = () => now() + 3_600_000; }")
        await talking.tab.run("window.dispatchEvent(new Event('online'))")
        await talking.tab.until("seen.pongs > 0")
        await talking.assert_whole(connections=1)


@pytest.mark.parametrize("hours", [-1, 1])
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_clock_that_is_set_costs_no_connection(browser: Browser, transport: str, hours: int) -> None:
    """A silent server is asked before the line is dropped."""
    async with talk(browser, transport, heartbeat_s=0.5) as talking:
        await talking.tab.run("session.interrupt()")
        for _ in range(3):
            await talking.tab.run(
                f"{{ const now = Date.now; Date.now = () => now() + {hours * 3_600_000}; }}"
            )
            await talking.tab.run("{ seen.since = performance.now() }")
            await talking.tab.until("performance.now() - seen.since > 1200")  # more silence than is allowed
        await talking.tab.run("{ seen.words = ''; session.send('talk'); 0 }")
        await talking.assert_whole(connections=1)


async def test_online_connects_at_once(browser: Browser) -> None:
    """A network that is back is used before the delay is over."""
    async with talk(browser, "websocket") as talking:
        await talking.tab.run("{ Math.random = () => 0.9999; 0 }")
        talking.line.target = 1
        talking.line.cut()
        await talking.tab.until("session.state.attempt >= 4")  # the next attempt is due in four seconds
        talking.line.target = talking.server.port
        await talking.tab.run("window.dispatchEvent(new Event('online'))")
        await asyncio.wait_for(talking.tab.until("seen.opened === 2"), 2)
        await talking.assert_whole(connections=2)
