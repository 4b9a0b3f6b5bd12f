"""Lines that are slow, break, or are taken over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser

from chat_page import person
from live_server import serving
from page_agents import chatter
from relay import relay

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORDS = "(turn) => (turn.querySelector('.text')?.textContent ?? '').replace('✂', '').trim().split(/\\s+/)"


def assert_whole(words: list[str]) -> None:
    """No word is missing, none comes twice."""
    assert words == [f"word{number}" for number in range(1, len(words) + 1)]


async def test_a_reload_in_mid_answer_goes_on(browser: Browser) -> None:
    """The conversation is restored, and the answer continues without a gap."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        first = await chat.say("short")
        await chat.ended(first, "completed")
        turn = await chat.say("talk")
        await chat.speaking(turn, 50)
        await chat.page.reload()
        await chat.connected()
        assert await chat.turns.count() == 2
        assert await chat.turns.first.locator(".text strong").text_content() == "short"
        turn = chat.turns.nth(1)
        assert "talk" in (await turn.locator(".user").text_content() or "")
        await chat.speaking(turn, 600)
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        assert_whole(await turn.evaluate(WORDS))
        assert chat.faults == []


async def test_a_broken_line_is_mended_without_a_gap(browser: Browser) -> None:
    """The page shows that it reconnects, and continues."""
    async with serving(chatter) as server, relay(server.port) as line, person(browser, line.port) as chat:
        turn = await chat.say("talk")
        await chat.speaking(turn, 50)
        line.target = 1  # or the line may be mended before anybody has looked
        line.cut()
        await chat.state("reconnecting")
        await chat.page.locator("#banner").wait_for()
        line.target = server.port
        await chat.connected()
        await chat.page.locator("#banner").wait_for(state="hidden")
        await chat.speaking(turn, 600)
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        assert_whole(await turn.evaluate(WORDS))


async def test_a_restarted_server_is_found_again(browser: Browser) -> None:
    """The running turn fails with advice; the conversation continues."""
    async with relay(0) as line, serving(chatter) as server:
        line.target = server.port
        async with person(browser, line.port) as chat:
            turn = await chat.say("talk")
            await chat.speaking(turn)
            async with serving(chatter) as another:
                line.target = another.port
                line.cut()
                await chat.ended(turn, "failed")
                again = turn.get_by_role("button", name="Send again")
                await again.wait_for()
                assert "has lost" in (await chat.page.locator("#banner").text_content() or "")
                await chat.connected()
                following = await chat.say("short")
                await chat.ended(following, "completed")


async def test_silence_does_not_wait_for_the_line(browser: Browser) -> None:
    """The answer freezes with the click, although more events arrive."""
    async with serving(chatter) as server, relay(server.port) as line, person(browser, line.port) as chat:
        turn = await chat.say("fast")
        await chat.speaking(turn, 500)
        line.delay_s = 0.8  # what is on its way now arrives late, the interrupt's answer too
        outcome = await chat.page.evaluate(
            """async () => {
                const turn = [...document.querySelectorAll(".turn")].at(-1);
                const body = turn.querySelector(".body");
                let changes = 0, frames = 0;
                const watch = new MutationObserver((records) => (changes += records.length));
                const stop = document.getElementById("stop");
                stop.dispatchEvent(new PointerEvent("pointerdown", { button: 0, bubbles: true }));
                const before = body.textContent;
                watch.observe(body, { childList: true, characterData: true, subtree: true });
                while (turn.dataset.status === undefined) {
                    await new Promise(requestAnimationFrame);
                    if (turn.dataset.status === undefined) frames += 1;
                    else break;
                }
                const last = body.textContent.replace("✂", "").trim();
                return { frames, changes, same: last === before.trim() };
            }"""
        )
        assert outcome["same"]
        assert outcome["frames"] > 20  # the answer took long, and nothing moved in all that time
        line.delay_s = 0.0


async def test_two_tabs_on_one_conversation(browser: Browser) -> None:
    """The newest tab wins; the other one can take the conversation back."""
    context = await browser.new_context()
    try:
        async with serving(chatter) as server, person(browser, server.port, context=context) as chat:
            turn = await chat.say("short")
            await chat.ended(turn, "completed")
            async with context.expect_page() as opened:
                await chat.page.evaluate(
                    "window.dispatchEvent(new Event('pagehide')); void window.open(location.href)"
                )
            second = await opened.value
            await second.wait_for_selector("#connection[data-state=open]")
            await chat.state("replaced")
            assert "another tab" in (await chat.page.locator("#banner").text_content() or "")
            await second.fill("#message", "short")
            await second.press("#message", "Enter")
            await second.locator(".turn[data-status=completed]").nth(1).wait_for()
            await chat.page.get_by_role("button", name="Take over here").click()
            await chat.connected()
            await second.wait_for_selector("#connection[data-state=replaced]")
            assert await chat.turns.count() == 2
            third = await chat.say("short")
            await chat.ended(third, "completed")
    finally:
        await context.close()


async def test_a_server_that_is_not_there(browser: Browser, tmp_path: Path) -> None:
    """The page shows the error with advice, and reconnects later."""
    async with serving(chatter) as server, relay(server.port) as line, person(browser, line.port) as chat:
        line.target = 1
        line.cut()
        await chat.state("reconnecting")
        await chat.page.locator("#banner .countdown").wait_for()
        line.target = server.port
        await chat.connected()


async def test_a_user_need_not_wait_for_the_next_attempt(browser: Browser, tmp_path: Path) -> None:
    """A button beside the countdown connects immediately, and keeps the focus as it counts."""
    async with serving(chatter) as server, relay(server.port) as line, person(browser, line.port) as chat:
        await chat.page.evaluate("Math.random = () => 0.999")  # each delay is the longest
        line.target = 1
        line.cut()
        await chat.state("reconnecting")
        button = chat.page.get_by_role("button", name="Try now")
        await button.focus()
        long = re.compile(r"Trying again in ([4-9]|\d\d) s")
        await chat.page.locator("#banner .countdown", has_text=long).wait_for()
        assert await button.evaluate("it => it === document.activeElement")
        line.target = server.port
        await chat.page.keyboard.press("Enter")
        await chat.page.locator("#connection[data-state=open]").wait_for(timeout=3500)
        assert await chat.page.locator("#banner").is_hidden()
