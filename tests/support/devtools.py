"""Chromium over the DevTools protocol, with the life of tabs untouched.

Playwright keeps every page visible and out of the back/forward cache. Here tabs are hidden, frozen and
stored as those of a user:

async with chromium() as browser:
    tab = await browser.open(url)
    await tab.freeze()
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from chat_page import CHROMIUM, FLAGS
from waiting import WAIT_S, TooLate, until


class Browser:
    """A running browser; made by `chromium`."""

    def __init__(self, socket: ClientConnection, group: int) -> None:
        self._socket = socket
        self._group = group
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def read(self) -> None:
        """Settle the answers to commands until the browser is gone."""
        async for message in self._socket:
            answer = json.loads(message)
            if (waiting := self._answers.pop(answer.get("id", 0), None)) is not None:
                waiting.set_result(answer)

    async def command(self, method: str, session: str | None = None, /, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._ids)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        command = {"id": number, "method": method, "params": parameters}
        await self._socket.send(json.dumps(command | ({"sessionId": session} if session else {})))
        async with asyncio.timeout(WAIT_S):
            answered = await answer
        assert "error" not in answered, (method, answered["error"])
        return dict(answered["result"])

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Stop all processes of the browser, like a device that is suspended."""
        os.killpg(self._group, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._group, signal.SIGCONT)

    async def open(self, url: str) -> Tab:
        """Open a tab and wait until it has loaded; the tab before it is hidden."""
        target = (await self.command("Target.createTarget", url=url))["targetId"]
        session = (await self.command("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = Tab(self, target, session)
        await tab.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")
        return tab


class Tab:
    """A tab of the browser."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session

    async def run(self, script: str) -> Any:
        """Return the value of an expression, awaited if it is a promise."""
        answer = await self._browser.command(
            "Runtime.evaluate", self._session, expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until an expression is true, also while the page changes."""
        loop = asyncio.get_running_loop()
        end = loop.time() + WAIT_S
        while True:
            with suppress(AssertionError):  # the page is being replaced
                if await self.run(f"Boolean({condition})"):
                    return
            if loop.time() > end:
                raise TooLate(f"waited {WAIT_S} s for {condition}")
            await asyncio.sleep(0.02)

    async def go(self, url: str) -> None:
        """Follow a link; the page that was left may be stored."""
        await self.run(f"void setTimeout(() => location.assign({json.dumps(url)}))")
        await self.until(f"location.href === {json.dumps(url)}")

    async def back(self, url: str) -> None:
        """Go back to the page before."""
        await self.run("void setTimeout(() => history.back())")
        await self.until(f"location.href === {json.dumps(url)}")

    async def freeze(self) -> None:
        """Hide the tab and stop its timers and tasks, as browsers do with tabs in the background."""
        await self._browser.command("Page.setWebLifecycleState", self._session, state="frozen")

    async def thaw(self) -> None:
        """Let the tab run again, still hidden."""
        await self._browser.command("Page.setWebLifecycleState", self._session, state="active")

    async def show(self) -> None:
        """Bring the tab to the front."""
        await self._browser.command("Target.activateTarget", targetId=self._target)

    async def close(self) -> None:
        """Close the tab."""
        await self._browser.command("Target.closeTarget", targetId=self._target)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a browser with a fresh profile."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            CHROMIUM, *FLAGS, "--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}",
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            place = Path(profile) / "DevToolsActivePort"
            await until(lambda: place.exists() and len(place.read_text().split()) == 2, "the browser")
            port, path = place.read_text().split()
            async with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as socket:
                browser = Browser(socket, process.pid)
                reading = asyncio.create_task(browser.read())
                try:
                    yield browser
                finally:
                    reading.cancel()
                    await asyncio.wait([reading])
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
