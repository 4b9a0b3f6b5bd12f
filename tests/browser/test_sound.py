"""Played and dropped audio, and the reports about it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Locator

from bargein_server import Output, Turn
from bargein_server.examples.demo import CHUNK_MS, SAMPLES_PER_SECOND, tone
from chat_page import ChatPage, person
from live_server import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

SHORT = "four words of sound"


async def tones(turn: Turn) -> AsyncIterator[Output]:
    """The tone agent, with the heard part of its last answer."""
    if turn.text == "recall":
        yield str(turn.history.messages(mark="✂")[-2]["content"])
        return
    async for output in tone(turn):
        yield output


async def account(chat: ChatPage, turn: Locator) -> tuple[int, int, int]:
    """Wait until a turn is silent; return its received and played samples."""
    await chat.page.locator("#stop").wait_for(state="hidden")
    numbers = re.findall(r"\d+", await turn.get_attribute("data-sound") or "")
    came, played, dropped = map(int, numbers)
    return came, played, dropped


async def played_some(chat: ChatPage, samples: int) -> None:
    """Wait until the last turn's sound was played so far."""
    await chat.page.wait_for_function(
        """(samples) => {
            const sound = [...document.querySelectorAll(".turn")].at(-1).dataset.sound ?? "";
            return Number(/(\\d+) were played/.exec(sound)?.[1] ?? 0) >= samples;
        }""",
        arg=samples,
    )


async def reports(chat: ChatPage) -> None:
    """Record the page's playback reports from now on."""
    await chat.page.evaluate(
        """() => {
            window.reports = [];
            const send = WebSocket.prototype.send;
            WebSocket.prototype.send = function (text) {
                const event = JSON.parse(text);
                if (event.type === "playback") reports.push(event.audio_ms);
                if (event.type === "interrupt") reports.push(event.played.audio_ms);
                return send.call(this, text);
            };
        }"""
    )


async def test_all_that_comes_is_played(browser: Browser) -> None:
    """All samples are played and reported."""
    async with serving(tones) as server, person(browser, server.port) as chat:
        await reports(chat)
        turn = await chat.say(SHORT)
        await chat.ended(turn, "completed")
        assert await account(chat, turn) == (23_040, 23_040, 0)
        assert (await chat.page.evaluate("reports"))[-1] == 23_040 * 1000 // SAMPLES_PER_SECOND
        assert chat.faults == []


@pytest.mark.parametrize("when", ["streaming", "ended"])
async def test_a_cut_is_counted_to_the_sample(browser: Browser, when: str) -> None:
    """Played plus dropped samples are all samples; the history agrees."""
    async with serving(tones) as server, person(browser, server.port) as chat:
        await reports(chat)
        if when == "ended":
            turn = await chat.say(SHORT + " and some more of them")
            await chat.ended(turn, "completed")
        else:
            turn = await chat.say("long")
        await played_some(chat, SAMPLES_PER_SECOND // 3)
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        came, played, dropped = await account(chat, turn)
        assert played + dropped == came
        assert dropped > 0
        told = (await chat.page.evaluate("reports"))[-1]
        assert told == played * 1000 // SAMPLES_PER_SECOND
        heard = (await turn.locator(".body").text_content() or "").split("✂")[0].split()
        recalled = await chat.say("recall")
        await chat.ended(recalled, "completed")
        kept = (await recalled.locator(".text").text_content() or "").replace("✂", "").split()
        # A word counts when its first piece was played; the page knows the block that the report missed.
        assert heard[: len(kept)] == kept or kept[: len(heard)] == heard
        assert abs(len(kept) - len(heard)) <= 1
        assert told > CHUNK_MS


async def test_silence_stays(browser: Browser) -> None:
    """Nothing of a cut answer is played; the next answer is played whole."""
    async with serving(tones) as server, person(browser, server.port) as chat:
        turn = await chat.say("long")
        await played_some(chat, 4000)
        await chat.page.keyboard.press("Escape")
        _, played, _ = await account(chat, turn)
        again = await account(chat, turn)
        assert again[1] == played
        following = await chat.say(SHORT)
        await chat.ended(following, "completed")
        assert (await account(chat, following))[1:] == (23_040, 0)
        assert await account(chat, turn) == again
