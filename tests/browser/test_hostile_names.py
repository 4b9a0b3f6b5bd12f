"""Markup in every name that the page shows stays text: of conversations, files, tools, steps, formulas."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from bargein_protocol import Data, Progress, ToolCall, ToolCallDelta, ToolResult, ToolRunning
from bargein_server import Output, Turn
from chat_page import ChatPage, person
from live_server import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

IMAGE = "<img src=x onerror=\"document.title='owned'\">"
SCRIPT = "\"'><script>document.title='owned'</script>"
FORMULAS = r"""
$\href{javascript:document.title='owned'}{x}$ $\url{javascript:alert(1)}$ $\htmlData{a=b}{x}$
$\includegraphics{https://elsewhere.invalid/p.png}$ $\text{<img src=x onerror=alert(1)>}$
$\def\a{\a\a}\a$ $\unicode{x3c}script\unicode{x3e}$

$$\class{a" onload="document.title='owned'}{x}$$
"""
PICTURE = """async () => {
    const canvas = new OffscreenCanvas(8, 8);
    canvas.getContext("2d").fillRect(0, 0, 4, 4);
    return [...new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer())];
}"""


class Hostile:
    """Agent that puts markup into every name that it may give."""

    takes_attachments = ("image/*",)

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        yield turn.status(IMAGE, "<svg onload=alert(1)>")
        yield turn.status(SCRIPT, "constructor")
        yield Data(name="log", value={"message": IMAGE, "level": SCRIPT})
        yield Data(name="log", value=SCRIPT)
        yield Data(name=SCRIPT, value={SCRIPT: IMAGE})
        yield Data(name="suggestions", value=[SCRIPT, IMAGE])
        yield Progress(value=1, total=2, unit=IMAGE, label=SCRIPT)
        call_id = turn.tools.claim("")
        yield ToolCall(call_id=call_id, name=SCRIPT)
        yield ToolCallDelta(call_id=call_id, arguments='{"<b onclick=x()>":"<script>1</script>"}')
        await turn.tools.begin(call_id, SCRIPT, {IMAGE: SCRIPT})
        yield ToolRunning(call_id=call_id, arguments={IMAGE: SCRIPT})
        result = ToolResult(call_id=call_id, output={"html": IMAGE}, status="completed")
        turn.tools.settle(result)
        yield result
        yield f'{IMAGE} ![{IMAGE}](javascript:alert(1)) [x](vbscript:alert(1) "{IMAGE}")\n'
        yield FORMULAS


async def is_harmless(chat: ChatPage) -> None:
    """Check that nothing ran, and nothing was made of the markup."""
    assert await chat.page.title() != "owned"
    found = chat.page.locator(
        "#conversation script, iframe, object, embed, [onerror], [onload], [onclick], [src='x'], "
        "a[href^='javascript:' i], a[href^='vbscript:' i], [data-a]"
    )
    assert await found.count() == 0
    assert chat.faults == []


async def test_names_are_text(browser: Browser) -> None:
    """Live, in the list of conversations, and restored after a reload; the policy reports nothing."""
    async with serving(Hostile()) as server, person(browser, server.port) as chat:
        page = chat.page
        picture = bytes(await page.evaluate(PICTURE))
        await page.set_input_files(
            "#files", {"name": f"{IMAGE}.png", "mimeType": "image/png", "buffer": picture}
        )
        await page.locator("#attached img").wait_for()
        turn = await chat.say(SCRIPT)
        await chat.ended(turn, "completed")
        await is_harmless(chat)
        for details in await turn.locator("details:not([open]) > summary").all():
            await details.click()
        await page.click("#toggle-inspector")
        await page.locator("#inspector .row", has_text="turn.ended").first.click()
        await is_harmless(chat)
        await page.click("#toggle-inspector")
        await page.click("#toggle-conversations")
        title = page.locator(".conversation .title")
        await title.wait_for()
        assert await title.text_content() == SCRIPT
        await page.locator(".conversation").get_by_role("button", name="Rename").click()
        await page.get_by_label("Title", exact=True).fill(IMAGE)
        await page.keyboard.press("Enter")
        await page.locator(".conversation .title", has_text="<img src=x").wait_for()
        await is_harmless(chat)
        await page.reload()
        await chat.connected()
        await chat.ended(chat.turns.first, "completed")
        await page.locator(".math math").first.wait_for()
        await is_harmless(chat)
