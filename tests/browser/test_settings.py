"""Settings of the page, its appearance by the server's configuration, and exported files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import Browser

from bargein_server import PageConfiguration
from chat_page import person
from live_server import serving
from page_agents import chatter

pytestmark = pytest.mark.asyncio(loop_scope="session")

GROUND = "getComputedStyle(document.body).backgroundColor"
SIZE = "getComputedStyle(document.body).fontSize"


def content_of(file: Path) -> str:
    """Return the text of a file."""
    return file.read_text("utf-8")


async def test_settings_are_kept(browser: Browser) -> None:
    """Theme and text size apply immediately, and from the first paint after a reload."""
    async with serving(chatter) as server, person(browser, server.port, scheme="light") as chat:
        page = chat.page
        assert await page.evaluate(GROUND) == "rgb(251, 250, 248)"
        await page.click("#open-settings")
        await page.get_by_label("Dark").check()
        assert await page.evaluate(GROUND) == "rgb(22, 24, 28)"
        await page.get_by_label("Text size").select_option("larger")
        await page.get_by_label("Play the sound of answers").uncheck()
        await page.keyboard.press("Escape")
        assert await page.locator("#settings").is_hidden()
        await page.reload()
        await chat.connected()
        assert await page.evaluate(GROUND) == "rgb(22, 24, 28)"
        assert await page.evaluate(SIZE) == "21px"
        await page.click("#open-settings")
        assert await page.get_by_label("Dark").is_checked()
        assert not await page.get_by_label("Play the sound of answers").is_checked()
        await page.get_by_label("System").check()
        assert await page.evaluate(GROUND) == "rgb(251, 250, 248)"
        assert chat.faults == []


@pytest.mark.parametrize("form", ["Markdown", "JSON"])
async def test_a_conversation_is_exported(browser: Browser, form: str) -> None:
    """A file with the messages, named by the conversation."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        await chat.ended(await chat.say("short"), "completed")
        await chat.page.click("#open-settings")
        async with chat.page.expect_download() as downloading:
            await chat.page.get_by_role("button", name=f"Export as {form}").click()
        download = await downloading.value
        text = content_of(await download.path())
        if form == "JSON":
            assert download.suggested_filename == "short.json"
            said = [(message["role"], message["content"]) for message in json.loads(text)["messages"]]
            assert said == [("user", "short"), ("assistant", "A **short** answer.")]
        else:
            assert download.suggested_filename == "short.md"
            assert text == "# short\n\n## You\n\nshort\n\n## Agent\n\nA **short** answer.\n"
        assert chat.faults == []


async def test_the_page_looks_as_configured(browser: Browser, tmp_path: Path) -> None:
    """Title, greeting, examples, colour and logo; the colour is made readable in both themes."""
    logo = tmp_path / "logo.svg"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1v1H0z"/></svg>')
    look = PageConfiguration(
        title="Harbour", greeting="Ask the harbour", examples=("short",), accent="#ffcc00", logo=str(logo)
    )
    async with serving(chatter, page=look) as server, person(browser, server.port) as chat:
        page = chat.page
        await page.get_by_role("heading", name="Ask the harbour").wait_for()
        assert await page.title() == "Harbour"
        source = await page.locator("#logo").get_attribute("src") or ""
        assert source.startswith("data:image/svg+xml;base64,")
        colour = await page.evaluate("getComputedStyle(document.querySelector('#send')).backgroundColor")
        assert colour == "rgb(140, 112, 0)"
        await page.get_by_role("button", name="short").click()
        await chat.ended(chat.turns.first, "completed")
        assert chat.faults == []
