"""Open WebUI, and `llm` at the command line, as clients of chat completions."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import Page, async_playwright

from chat_page import launch
from client_programs import environment
from door_agent import play
from live_server import Serving, serving
from waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.foreign, pytest.mark.timeout(900)]

START_S = 240.0
"""For Open WebUI: it creates its database."""


async def test_llm(tmp_path: Path) -> None:
    """A turn, and the next one of the same conversation."""
    program = environment("clients") / "llm"

    async def run(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            str(program), *arguments, stdout=-1, stderr=-1, stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, "LLM_USER_PATH": str(tmp_path)},
        )  # fmt: skip
        output, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, errors.decode()
        return output.decode().strip()

    async with serving(play, doors=["chat"]) as server:
        (tmp_path / "extra-openai-models.yaml").write_text(
            "- model_id: mine\n  model_name: agent\n"
            f"  api_base: http://127.0.0.1:{server.port}/v1\n"
            "  headers: {X-Conversation-Id: mine}\n"
        )
        assert await run("-m", "mine", "--key", "none", "hello") == "You said hello."
        assert '"You said hello."' in await run("-c", "--key", "none", "recall")
        assert len(server.sessions) == 1


@asynccontextmanager
async def open_webui(server: Serving, folder: Path) -> AsyncIterator[str]:
    """Run Open WebUI with a server as its only model; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {
        "WEBUI_AUTH": "False", "WEBUI_SECRET_KEY": "any", "DATA_DIR": str(folder), "HF_HUB_OFFLINE": "1",
        "OPENAI_API_BASE_URL": f"http://127.0.0.1:{server.port}/v1", "OPENAI_API_KEY": "none",
        "ENABLE_OLLAMA_API": "False", "ENABLE_FORWARD_USER_INFO_HEADERS": "True", "OFFLINE_MODE": "True",
        "RAG_EMBEDDING_ENGINE": "openai",
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(environment("webui") / "open-webui"), "serve", "--host", "127.0.0.1", "--port", str(port),
            env={**os.environ, **variables}, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient() as client, asyncio.timeout(START_S):
            while True:
                assert process.returncode is None, (folder / "log").read_text("utf-8")[-3000:]
                try:
                    if (await client.get(f"{url}/health")).status_code == 200:
                        break
                except httpx2.HTTPError:
                    pass
                await asyncio.sleep(0.2)
        yield url
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def say(page: Page, text: str) -> None:
    await page.locator("#chat-input").click()
    await page.keyboard.type(text)
    await page.keyboard.press("Enter")


@pytest.mark.needs("chromium")
async def test_open_webui(tmp_path: Path) -> None:
    """A turn, a stop, and the next turn, which has what was shown; its titles have sessions of their own."""
    async with serving(play, doors=["chat"]) as server, open_webui(server, tmp_path) as url:
        async with async_playwright() as playwright:
            browser = await launch(playwright)
            page = await browser.new_page()
            page.set_default_timeout(60_000)
            await page.goto(url)
            await page.locator("#chat-input").wait_for()
            news = page.get_by_role("button", name="go!")
            await page.wait_for_timeout(2000)
            if await news.count():
                await news.click()
            await say(page, "hello")
            await page.get_by_text("You said hello.").first.wait_for()
            await say(page, "count")
            await page.get_by_text("1 2 3 4 5").first.wait_for()
            await page.get_by_label("Stop").click()

            def running() -> list[Any]:
                return [host for host in server.sessions if host.core.busy]

            async with asyncio.timeout(1):
                await until(lambda: not running(), "the interrupt")
            await say(page, "recall")
            await page.get_by_text("[interrupted]").first.wait_for()
            await browser.close()
        [talk] = [host for host in server.sessions if len(host.core.outside.turns()) > 1]
        assert [turn.input.text for turn in talk.core.outside.turns()] == ["hello", "count", "recall"]
