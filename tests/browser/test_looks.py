"""Appearance and accessibility of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser

from bargein_server.examples.demo import demo
from chat_page import ChatPage, person
from live_server import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE, DESK = (390, 844), (1280, 860)


async def faults_for_readers(chat: ChatPage) -> list[str]:
    """Return the serious and critical findings of axe-core."""
    results: Any = await Axe().run(chat.page)
    return [
        f"{fault['id']}: {node['html'][:200]}"
        for fault in results.response["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the demo agent's pauses."""
    monkeypatch.setattr("bargein_server.examples.demo.WORDS_PER_SECOND", 90.0)


@pytest.fixture
def album(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where pictures go."""
    folder = Path(request.config.getoption("--screenshots") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
async def test_every_scene_can_be_used_by_everybody(
    browser: Browser, album: Path, scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    """No serious finding of axe-core, and nothing wider than the screen."""

    async def look(name: str) -> None:
        await chat.page.screenshot(path=album / f"{name}-{size[0]}-{scheme}.png")
        assert await faults_for_readers(chat) == []
        widths = await chat.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert widths[0] <= widths[1]

    async with serving(demo) as server, person(browser, server.port, size=size, scheme=scheme) as chat:
        await look("1-welcome")
        await chat.page.click("#open-settings")
        await look("1-settings")
        await chat.page.keyboard.press("Escape")
        turn = await chat.say("Show me the format, please")
        await chat.ended(turn, "completed")
        await look("2-format")
        await chat.page.click("#toggle-conversations")
        await chat.page.locator(".conversation").first.wait_for()
        await look("2-conversations")
        await chat.page.click("#close-conversations")
        turn = await chat.say("Tell me a story")
        await chat.speaking(turn, 120)
        await turn.locator("summary").click()
        await look("3-steps")
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        await chat.page.click("#toggle-inspector")
        await chat.page.locator(".row").first.wait_for()
        await look("4-inspector")
        await chat.page.keyboard.press("Escape")
        turn = await chat.say("Draft an email")
        await turn.locator(".draft button.primary").wait_for()
        await look("5-draft")
        turn = await chat.say("Ask your team")
        await turn.locator(".lane").nth(2).locator(".text").wait_for()
        await look("6-team")
        turn = await chat.say("Book a seat")
        await turn.locator(".question button.primary").wait_for()
        await look("7-question")
        turn = await chat.say("Please fail")
        await chat.ended(turn, "failed")
        await look("8-failure")


async def test_a_keyboard_is_enough(browser: Browser) -> None:
    """From the message field, Tab goes around through everything in order."""
    async with serving(demo) as server, person(browser, server.port) as chat:
        names = []
        for _ in range(13):
            await chat.page.keyboard.press("Tab")
            names.append(
                await chat.page.evaluate("document.activeElement.id || document.activeElement.tagName")
            )
            if names[-1] == "message":
                break
        # One Tab after the last button leaves the page; whether there is a voice or an ear is the browser's.
        assert [name for name in names if name not in ("BODY", "toggle-reading", "toggle-listening")] == [
            "send", "A", "toggle-conversations", "restart", "open-settings", "toggle-inspector", "scroller",
            "BUTTON", "BUTTON", "message",
        ]  # fmt: skip
        await chat.page.focus("#toggle-inspector")
        await chat.page.keyboard.press("Enter")
        assert await chat.page.evaluate("document.activeElement.id") == "event-search"
        await chat.page.keyboard.press("Escape")
        assert await chat.page.evaluate("document.activeElement.id") == "toggle-inspector"


async def test_a_screen_reader_is_told_sentences_and_ends(browser: Browser) -> None:
    """The live region changes a few times per answer, not per word."""
    async with serving(demo) as server, person(browser, server.port) as chat:
        await chat.page.evaluate(
            """() => {
                window.told = [];
                new MutationObserver((records) => {
                    for (const record of records) for (const n of record.addedNodes) told.push(n.textContent);
                }).observe(document.getElementById("announcer"), { childList: true });
            }"""
        )
        turn = await chat.say("hello there")
        await chat.ended(turn, "completed")
        told = json.loads(await chat.page.evaluate("JSON.stringify(told)"))
        assert 1 <= len(told) <= 8
        assert "I am the demo agent" in "".join(told)
        turn = await chat.say("Tell me a story")
        await chat.speaking(turn, 60)
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        told = json.loads(await chat.page.evaluate("JSON.stringify(told)"))
        assert told[-1].startswith("Stopped after")
