"""Markdown of answers: task lists, directions of text, code and formulas."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from chat_page import person
from live_server import serving
from page_agents import chatter, formatter

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_tasks_code_and_formulas_are_drawn(browser: Browser) -> None:
    """The same live and after a reload, with the libraries loaded by then."""
    async with serving(formatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("format")
        await chat.ended(turn, "completed")
        for _ in range(2):
            text = chat.turns.first.locator(".text")
            boxes = await text.locator("li input").evaluate_all("boxes => boxes.map((box) => box.checked)")
            assert boxes == [True, False]
            assert await text.locator("li").first.text_content() == "done"
            await text.locator(".code .token-keyword", has_text="def").wait_for()
            code = await text.locator(".code code").all_text_contents()
            assert code[0] == "def answer() -> int:\n    return 42  # always\n"
            assert code[1] == "<b>plain</b>\n"
            await text.locator("div.math math[display=block] menclose").wait_for()
            assert await text.locator("span.math math").count() == 3
            assert await text.locator("div.math math").count() == 2
            assert "costs $5 and $10" in (await text.text_content() or "")
            assert await text.locator("script, b, i").count() == 0
            assert chat.faults == []
            await chat.page.reload()
            await chat.connected()


async def test_each_block_has_the_direction_of_its_text(browser: Browser) -> None:
    """Hebrew stands at the right of an English page, and code at the left."""
    async with serving(formatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("שלום")
        await chat.ended(turn, "completed")
        directions = "elements => elements.map((element) => getComputedStyle(element).direction)"
        assert await turn.locator(".text p").first.evaluate_all(directions) == ["rtl"]
        assert set(await turn.locator(".code").evaluate_all(directions)) == {"ltr"}
        assert await turn.locator(".user > [dir=auto]").evaluate_all(directions) == ["rtl"]


async def test_libraries_are_loaded_when_they_are_needed(browser: Browser) -> None:
    """Plain answers load neither the highlighter nor KaTeX."""
    loaded = "performance.getEntriesByType('resource').map((entry) => entry.name.split('/').at(-1))"
    async with serving(chatter) as server, person(browser, server.port) as chat:
        await chat.ended(await chat.say("short"), "completed")
        assert not {"katex.js", "highlight.js"} & set(await chat.page.evaluate(loaded))
    async with serving(formatter) as server, person(browser, server.port) as chat:
        turn = await chat.say("format")
        await turn.locator("math").first.wait_for()
        assert {"katex.js", "highlight.js"} <= set(await chat.page.evaluate(loaded))
