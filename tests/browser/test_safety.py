"""Output of a model stays text."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from chat_page import person
from live_server import serving
from page_agents import chatter, evil, sly

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_a_model_writes_runs_nothing(browser: Browser) -> None:
    """Scripts, handlers and script links are text, live and restored."""
    async with serving(evil) as server, person(browser, server.port) as chat:
        turn = await chat.say("attack")
        await chat.ended(turn, "completed")
        for _ in range(2):
            turn = chat.turns.first
            await chat.ended(turn, "completed")
            assert await chat.page.title() == "bargein"
            assert "<script>document.title" in (await turn.locator(".text").first.text_content() or "")
            assert "<img src=x onerror=alert(1)>" in (await turn.locator(".call .name").text_content() or "")
            assert (
                await turn.locator("script, img, iframe, svg[onload], b, [onclick], [onerror]").count() == 0
            )
            links = await turn.locator("a").evaluate_all("links => links.map((link) => link.protocol)")
            assert set(links) == {"https:"}
            assert chat.faults == []
            await chat.page.reload()
            await chat.connected()


async def test_the_policy_refuses_what_the_page_does_not_need(browser: Browser) -> None:
    """The policy refuses inline scripts, HTML strings, other hosts, frames."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        refused = await chat.page.evaluate(
            """async () => {
                const outcome = [];
                const script = document.createElement("script");
                try { script.textContent = "document.title = 'owned'"; document.body.append(script); }
                catch { outcome.push("script"); }
                try { document.body.innerHTML = "<b>x</b>"; } catch { outcome.push("html"); }
                await fetch("https://elsewhere.invalid/").catch(() => outcome.push("fetch"));
                const frame = document.createElement("iframe");
                frame.src = "/";
                document.body.append(frame);
                await new Promise((resolve) => (frame.onload = resolve));
                if (frame.contentDocument === null) outcome.push("frame");
                return [outcome, document.title];
            }"""
        )
        chat.strangers.clear()
        assert refused == [["script", "html", "fetch", "frame"], "bargein"]


async def test_secrets_are_not_shown(browser: Browser) -> None:
    """The inspector shows that there is a token, and not which."""
    async with serving(chatter) as server, person(browser, server.port) as chat:
        await chat.page.click("#toggle-inspector")
        row = chat.page.locator(".row", has_text="session.opened")
        await row.click()
        detail = await chat.page.locator("#event-detail").text_content() or ""
        assert '"token": "(secret)"' in detail
        token = (await chat.kept())["resume"]["token"]
        assert token not in await chat.page.content()


async def test_a_question_hides_nothing(browser: Browser) -> None:
    """Characters that reorder or hide text are visible; emoji stay whole."""
    async with serving(sly) as server, person(browser, server.port) as chat:
        turn = await chat.say("ask")
        assert await turn.locator(".question dd").text_content() == (
            r"a\u{202e}bc\u{200b}d " + "\U0001f469\u200d\U0001f4bb"
        )
        await turn.get_by_role("button", name="Deny").click()
