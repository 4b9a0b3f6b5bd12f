"""Speech of the browser: reading aloud, and barging in by speaking.

A browser without a person has neither, so both are fakes of the Web Speech API that a test drives: the
page is the real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser

from bargein_server import Output, Turn
from chat_page import ChatPage
from live_server import serving
from page_agents import chatter

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAKES = """
class Utterance { constructor(text) { this.text = text; } }
const voice = Object.assign(new EventTarget(), {
    queue: [], spoken: [], paused: false, cancels: 0,
    getVoices: () => [{ name: "fake" }],
    speak: (utterance) => voice.queue.push({ utterance, at: 0 }),
    pause: () => (voice.paused = true),
    resume: () => (voice.paused = false),
    cancel: () => { voice.cancels += 1; voice.queue = []; },
    /* Says so many words. */
    say(count) {
        while (count > 0 && voice.queue.length > 0 && !voice.paused) {
            const { utterance, at } = voice.queue[0];
            const word = /\\S+/g;
            word.lastIndex = at;
            const found = word.exec(utterance.text);
            if (found === null) { voice.queue.shift(); utterance.onend({ type: "end" }); continue; }
            voice.queue[0].at = word.lastIndex;
            voice.spoken.push(found[0]);
            utterance.onboundary({ charIndex: found.index, charLength: found[0].length });
            count -= 1;
        }
    },
});
class Recogniser {
    constructor() { window.ear = this; this.running = false; }
    start() { this.running = true; }
    abort() { this.running = false; }
    hear(transcript, isFinal) {
        this.onresult({ resultIndex: 0, results: [Object.assign([{ transcript }], { isFinal })] });
    }
}
Object.defineProperty(window, "speechSynthesis", { value: voice });
window.SpeechSynthesisUtterance = Utterance;
window.SpeechRecognition = Recogniser;
"""
NEITHER = """
delete window.SpeechSynthesisUtterance;
delete window.SpeechRecognition;
delete window.webkitSpeechRecognition;
"""


async def sentences(turn: Turn) -> AsyncIterator[Output]:
    """Two sentences, or the heard part of them."""
    if turn.text == "recall":
        yield str(turn.history.messages(mark="✂")[-2]["content"])
    else:
        yield "One two **three** four. Five six seven eight."


@asynccontextmanager
async def listener(browser: Browser, port: int, script: str = FAKES) -> AsyncIterator[ChatPage]:
    """Open the page in a browser with or without speech."""
    context = await browser.new_context()
    try:
        await context.add_init_script(script)
        yield await ChatPage(await context.new_page(), port).open()
    finally:
        await context.close()


async def test_what_the_browser_cannot_do_is_not_offered(browser: Browser) -> None:
    """No button without a voice or an ear."""
    async with serving(chatter) as server, listener(browser, server.port, NEITHER) as chat:
        assert await chat.page.locator("#toggle-reading").is_hidden()
        assert await chat.page.locator("#toggle-listening").is_hidden()
        assert chat.faults == []


async def test_an_answer_is_read_aloud(browser: Browser) -> None:
    """Without markup, to the end; then nothing can be stopped."""
    async with serving(sentences) as server, listener(browser, server.port) as chat:
        await chat.page.click("#toggle-reading")
        turn = await chat.say("read")
        await chat.ended(turn, "completed")
        assert await chat.page.locator("#stop").is_visible()
        await chat.page.evaluate("speechSynthesis.say(100)")
        spoken = await chat.page.evaluate("speechSynthesis.spoken.join(' ')")
        assert spoken == "One two three four. Five six seven eight."
        await chat.page.locator("#stop").wait_for(state="hidden")


async def test_what_was_not_said_aloud_was_not_heard(browser: Browser) -> None:
    """A cut within a sentence: the rest is dimmed, the report is exact."""
    async with serving(sentences) as server, listener(browser, server.port) as chat:
        await chat.page.click("#toggle-reading")
        turn = await chat.say("read")
        await chat.ended(turn, "completed")
        await chat.page.evaluate("speechSynthesis.say(6)")
        await chat.page.keyboard.press("Escape")
        await chat.ended(turn, "interrupted")
        assert await turn.locator(".ended").text_content() == "Stopped after 6 words"
        assert (await turn.locator(".unheard").text_content() or "").split() == ["seven", "eight."]
        assert await chat.page.evaluate("speechSynthesis.queue.length") == 0
        recalled = await chat.say("recall")
        await chat.ended(recalled, "completed")
        kept = await recalled.locator(".text").text_content() or ""
        assert kept.split("✂")[0].split() == ["One", "two", "three", "four.", "Five", "six"]


async def test_a_first_sound_only_holds(browser: Browser) -> None:
    """A sound holds the answer; without words the answer continues."""
    async with serving(chatter) as server, listener(browser, server.port) as chat:
        await chat.page.click("#toggle-listening")
        turn = await chat.say("talk")
        await chat.speaking(turn)
        await chat.page.evaluate("ear.onspeechstart()")
        await turn.and_(chat.page.locator(".held")).wait_for()
        held = len(await turn.locator(".text").text_content() or "")
        await turn.and_(chat.page.locator(":not(.held)")).wait_for()
        await chat.speaking(turn, held + 50)
        words = (await turn.locator(".text").text_content() or "").split()
        assert words[:-1] == [f"word{number}" for number in range(1, len(words))]


async def test_words_interrupt(browser: Browser) -> None:
    """The first word cuts the answer; all words are the next input."""
    async with serving(chatter) as server, listener(browser, server.port) as chat:
        await chat.page.click("#toggle-listening")
        turn = await chat.say("talk")
        await chat.speaking(turn)
        await chat.page.evaluate("ear.onspeechstart()")
        await chat.page.evaluate("ear.hear('sho', false)")
        await chat.ended(turn, "interrupted")
        await chat.page.evaluate("ear.hear('short', true)")
        await chat.ended(chat.turns.nth(1), "completed")
        assert "short" in (await chat.turns.nth(1).locator(".user").text_content() or "")


async def test_an_ear_that_is_refused_says_so(browser: Browser) -> None:
    """The button is released."""
    async with serving(chatter) as server, listener(browser, server.port) as chat:
        await chat.page.click("#toggle-listening")
        await chat.page.evaluate("ear.onerror({ error: 'not-allowed' })")
        await chat.page.locator("#banner", has_text="does not let this page use the microphone").wait_for()
        assert await chat.page.get_attribute("#toggle-listening", "aria-pressed") == "false"
