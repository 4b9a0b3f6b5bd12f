"""Each example, started by its command, is cut by a person at bad moments and then asked once more."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from chat_page import ChatPage, launch
from example_pictures import example_server, model_server
from terminal_session import Terminal, on_terminal, plain

pytestmark = pytest.mark.nightly

QUESTIONS = {
    "analysis": "interrupt_ms and first_token_ms by clients",
    "coding": "Write a function that counts the words of a file",
    "document": "A short guide to tides",
    "research": "How do I cancel a coroutine that takes too long?",
    "support": "The desk lamp is broken, I want my money back",
    "translation": "The sea is old. It has seen many ships, and it remembers all of them.",
    "typeahead": "glob.glob",
}
ANSWERS = {
    "analysis": "mean",
    "coding": "len(Path(path)",
    "document": "half way",
    "research": "asyncio.wait_for",
    "support": "refund",
    "translation": "erinnert sich",
    "typeahead": "list of paths",
}
"""Words of an answer that was not cut, or of the consent that it asks for."""

MOMENTS_S = (0.0, 0.03, 0.15, 0.5, 1.2)
"""Times between question and cut: before the first word, in the text, in tools, after a short answer."""

SPINNER = re.compile("[⠀-⣿]|\\s|\\x08")


@asynccontextmanager
async def serving_example(name: str, folder: Path) -> AsyncIterator[str]:
    """Run an example with a scripted model; its log must not contain a traceback."""
    with (folder / "log").open("w+b") as log:
        async with model_server() as model, example_server(name, model, log) as url:
            yield url
        log.seek(0)
        assert b"Traceback" not in log.read()


async def quiet(terminal: Terminal) -> None:
    """Wait until the terminal has shown nothing new for a while, spinners aside."""
    shown = -1
    while shown != (shown := len(SPINNER.sub("", plain(terminal.shown)))):
        await asyncio.sleep(0.6)


@pytest.mark.parametrize("name", QUESTIONS)
async def test_in_the_terminal(name: str, tmp_path: Path) -> None:
    """Ctrl-C at each moment, then an answer that is whole, and a clean exit."""
    async with (
        serving_example(name, tmp_path) as url,
        on_terminal("chat", url.removeprefix("http://")) as terminal,
    ):
        await terminal.expect("Ctrl-C")
        for moment in MOMENTS_S:
            terminal.type(f"{QUESTIONS[name]}\r")
            await asyncio.sleep(moment)
            terminal.type("\x03")
            await quiet(terminal)
        before = len(plain(terminal.shown))
        terminal.type(f"{QUESTIONS[name]}\r")
        await terminal.expect(QUESTIONS[name][-10:])
        await terminal.expect(ANSWERS[name])
        (tmp_path / "shown").write_text(plain(terminal.shown)[before:])
        terminal.type("\x03")
        await quiet(terminal)
        terminal.type("\x04")
        assert await terminal.wait() == 0


@pytest.mark.parametrize("name", QUESTIONS)
async def test_in_the_page(name: str, tmp_path: Path) -> None:
    """Escape at each moment, then an answer that is whole, and no fault in the console."""
    async with serving_example(name, tmp_path) as url, async_playwright() as playwright:
        browser = await launch(playwright)
        page = await browser.new_page(viewport={"width": 900, "height": 1400})
        chat = await ChatPage(page, int(url.rstrip("/").rpartition(":")[2])).open()
        for moment in MOMENTS_S:
            turn = await chat.say(QUESTIONS[name])
            await asyncio.sleep(moment)
            await page.keyboard.press("Escape")
            await turn.locator(".ended").wait_for()
        turn = await chat.say(QUESTIONS[name])
        await turn.get_by_text(ANSWERS[name]).first.wait_for(state="attached", timeout=60_000)
        await page.screenshot(path=tmp_path / "page.png")
        assert chat.faults == []
        await browser.close()
