"""Files in messages: chosen, shown, made smaller, refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from bargein_server import Output, Turn
from chat_page import ChatPage, person
from live_server import serving
from page_agents import chatter

pytestmark = pytest.mark.asyncio(loop_scope="session")

# A picture of random pixels, which no format makes small.
NOISE = """async ([width, height, type]) => {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    for (let at = 0; at < image.data.length; at += 65536) {
        crypto.getRandomValues(image.data.subarray(at, Math.min(at + 65536, image.data.length)));
    }
    for (let at = 3; at < image.data.length; at += 4) image.data[at] = 255;
    context.putImageData(image, 0, 0);
    return [...new Uint8Array(await (await canvas.convertToBlob({ type })).arrayBuffer())];
}"""


class Viewer:
    """Agent that lists the files of its input."""

    takes_attachments = ("image/*",)

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        files = [f"{file.name} {file.media_type} {len(file.data)}" for file in turn.attachments]
        yield " / ".join(files) or "nothing"


async def choose(chat: ChatPage, name: str, media_type: str, content: bytes) -> None:
    """Choose a file, as in the dialog of the browser."""
    await chat.page.set_input_files("#files", {"name": name, "mimeType": media_type, "buffer": content})


async def test_a_picture_goes_with_a_message(browser: Browser) -> None:
    """It is shown above the field, then in the message, also after a reload; it may be asked about again."""
    async with serving(Viewer()) as server, person(browser, server.port) as chat:
        png = bytes(await chat.page.evaluate(NOISE, [40, 30, "image/png"]))
        await choose(chat, "noise.png", "image/png", png)
        await chat.page.locator("#attached img[alt='noise.png']").wait_for()
        turn = await chat.say("What is this?")
        assert await chat.page.locator("#attached").is_hidden()
        await chat.ended(turn, "completed")
        assert await turn.locator(".text").text_content() == f"noise.png image/png {len(png)}"
        await turn.get_by_role("button", name="Regenerate").click()
        await chat.page.wait_for_function("() => document.querySelectorAll('.turn').length === 1")
        await chat.ended(chat.turns.first, "completed")
        assert await chat.turns.first.locator(".text").text_content() == f"noise.png image/png {len(png)}"
        await chat.page.reload()
        await chat.connected()
        await chat.turns.first.locator("img[alt='noise.png']").wait_for()
        assert await chat.page.get_by_role("button", name="Regenerate").is_hidden()
        assert chat.faults == []


async def test_a_large_picture_is_made_smaller(browser: Browser) -> None:
    """Until it fits into a frame of the server."""
    async with serving(Viewer()) as server, person(browser, server.port) as chat:
        png = bytes(await chat.page.evaluate(NOISE, [420, 320, "image/png"]))
        assert len(png) > 300_000
        await choose(chat, "large.png", "image/png", png)
        await chat.page.locator("#attached img").wait_for()
        await chat.page.press("#message", "Enter")
        await chat.ended(chat.turns.first, "completed")
        name, media_type, size = (await chat.turns.first.locator(".text").text_content() or "").split()
        assert (name, media_type) == ("large.jpg", "image/jpeg")
        assert 10_000 < int(size) < 190_000


async def test_other_files_are_refused_before_they_are_sent(browser: Browser) -> None:
    """The page says what the agent takes; a chosen file can be removed."""
    async with serving(Viewer()) as server, person(browser, server.port) as chat:
        await choose(chat, "notes.txt", "text/plain", b"hello")
        await chat.page.locator("#banner", has_text="takes no files like “notes.txt”").wait_for()
        await choose(chat, "a.svg", "image/svg+xml", b"<svg/>")
        await chat.page.get_by_role("button", name="Remove a.svg").click()
        turn = await chat.say("plain")
        await chat.ended(turn, "completed")
        assert await turn.locator(".text").text_content() == "nothing"


async def test_an_agent_without_files_has_no_button(browser: Browser) -> None:
    """Nothing suggests what is not possible."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        assert await chat.page.locator("#attach").is_hidden()
