"""The page's microphone, with a server that hears and speaks by fakes.

The microphone is a tone that the test turns on and off; its way through the page, the socket and the
server is the real one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, WebSocket

from bargein_server import Turn
from chat_page import ChatPage
from fake_voice import WORD_MS, FakeStreaming, FakeVoice, Reader, fake_parts
from live_server import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

RATE = 24_000
FIRST_SAMPLE = 1000
WORD = RATE * WORD_MS // 1000
HEARD_MS = 20

TONE = """
navigator.mediaDevices.getUserMedia = async (wanted) => {
    window.wanted = wanted.audio;
    const context = new AudioContext();
    const tone = new OscillatorNode(context, { frequency: 300 });
    const gain = new GainNode(context, { gain: 0 });
    const made = context.createMediaStreamDestination();
    tone.connect(gain).connect(made);
    tone.start();
    window.speak = (loud) => { gain.gain.value = loud ? 0.5 : 0; };
    window.unplug = () => made.stream.getTracks()[0].dispatchEvent(new Event("ended"));
    return made.stream;
};
"""
TAP = """
// Hands out all that the loudspeaker gets, block by block, as samples of PCM16.
registerProcessor("tap", class extends AudioWorkletProcessor {
    process([input]) {
        const block = input[0];
        if (block !== undefined) this.port.postMessage(block.map((sample) => Math.round(sample * 32768)));
        return true;
    }
});
"""
RECORD = (
    f"const TAP = {json.dumps(TAP)};"
    + """
window.loudspeaker = [];
const tapped = URL.createObjectURL(new Blob([TAP], { type: "text/javascript" }));
const ready = new WeakSet();
const add = AudioWorklet.prototype.addModule;
AudioWorklet.prototype.addModule = async function (url) {
    if (!ready.has(this)) await add.call(this, tapped);
    ready.add(this);
    return add.call(this, url);
};
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode) {
        const tap = new AudioWorkletNode(this.context, "tap", { numberOfOutputs: 0 });
        tap.port.onmessage = ({ data }) => loudspeaker.push(...data.filter((sample) => sample !== 0));
        connect.call(this, tap);
    }
    return connect.call(this, target, ...rest);
};
"""
)
REFUSED = """
navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("no", "NAME"); };
"""


async def talker(turn: Turn) -> AsyncIterator[str]:
    """Talk for long to "talk", and repeat everything else."""
    yield "word " * 60 if turn.text == "talk" else f"You said {turn.text}."


class Voice:
    """A person who speaks to the page.

    Attributes:
        hears: Texts that the recogniser hears.
        events: Events that the page got.
    """

    def __init__(self, chat: ChatPage, hears: Reader) -> None:
        self.chat = chat
        self.page = chat.page
        self.hears = hears
        self.events: list[dict[str, Any]] = []
        self.page.on("websocket", self._watch)

    def _watch(self, socket: WebSocket) -> None:
        def received(frame: str | bytes) -> None:
            self.events.append(json.loads(frame))

        socket.on("framereceived", received)

    async def turn_on(self) -> None:
        """Press the microphone."""
        await self.page.click("#toggle-listening")
        await self.page.wait_for_function("() => window.speak !== undefined")

    async def speak(self, loud: bool) -> None:
        """Begin or end to speak."""
        await self.page.evaluate("loud => window.speak(loud)", loud)

    async def say(self) -> None:
        """Speak until the server hears it."""
        await self.speak(True)
        await self.state("You are speaking")
        await self.page.wait_for_timeout(600)
        await self.speak(False)

    async def got(self, kind: str, after: int = 0) -> dict[str, Any]:
        """Return the first event of a kind after so many events."""
        for _ in range(1000):
            for event in self.events[after:]:
                if event["type"] == kind:
                    return event
            await self.page.wait_for_timeout(10)
        raise AssertionError(f"there was no {kind}")

    async def played(self) -> list[tuple[int, int]]:
        """Return the words that the loudspeaker has played, as the voice numbers them, with their samples."""
        samples = await self.page.evaluate("loudspeaker")
        return [(number - FIRST_SAMPLE, len(list(same))) for number, same in groupby(samples)]

    async def state(self, words: str) -> None:
        """Wait until the bar shows who has the floor."""
        await self.page.locator("#voice-state", has_text=words).wait_for()

    def turn(self, number: int) -> Locator:
        """Return an exchange."""
        return self.chat.turns.nth(number)

    async def told(self, words: str) -> None:
        """Wait for a sentence of the banner."""
        await self.page.locator("#banner", has_text=words).wait_for()


@asynccontextmanager
async def speaking(
    browser: Browser, *texts: str, script: str = TONE, recogniser: Reader | None = None, **settings: Any
) -> AsyncIterator[Voice]:
    """Open the page of a server that hears these texts."""
    hears = recogniser or Reader(*texts)
    parts = fake_parts(voice=FakeVoice(RATE), recogniser=hears)
    async with serving(talker, voice=parts, **settings) as server:
        # The tap has an address of its own, which the page's policy does not allow.
        context = await browser.new_context(
            viewport={"width": 900, "height": 800}, bypass_csp=RECORD in script
        )
        await context.add_init_script(script)
        try:
            voice = Voice(ChatPage(await context.new_page(), server.port), hears)
            await voice.chat.open()
            yield voice
        finally:
            await context.close()


async def test_a_conversation(browser: Browser) -> None:
    """What was said is shown as the user's message, and the answer is spoken and shown."""
    async with speaking(browser, "hello") as voice:
        await voice.turn_on()
        await voice.state("Listening")
        wanted = await voice.page.evaluate("window.wanted")
        assert wanted["echoCancellation"] is True
        await voice.say()
        await voice.chat.ended(voice.turn(0), "completed")
        assert "hello" in (await voice.turn(0).locator(".user").text_content() or "")
        assert "You said hello." in (await voice.turn(0).text_content() or "")
        await voice.page.click("#toggle-listening")
        assert await voice.page.locator("#voice").is_hidden()
        assert voice.chat.faults == []


async def test_a_barge_in(browser: Browser) -> None:
    """The answer falls silent and is cut; what was played and what was heard agree."""
    async with speaking(browser, "talk", "stop") as voice:
        await voice.turn_on()
        await voice.say()
        await voice.state("Speak to interrupt")
        played = r"() => /[1-9]\d* were played/.test(document.querySelector('.turn').dataset.sound)"
        await voice.page.wait_for_function(played)
        await voice.speak(True)
        await voice.chat.ended(voice.turn(0), "interrupted")
        await voice.speak(False)
        assert await voice.turn(0).locator(".cut").count() == 1
        await voice.chat.ended(voice.turn(1), "completed")
        assert "You said stop." in (await voice.turn(1).text_content() or "")
        assert voice.chat.faults == []


async def test_the_loudspeaker_and_the_server_agree(browser: Browser) -> None:
    """A cough loses no sample, and a barge-in ends where the server says that it was heard."""
    async with speaking(browser, "talk", script=TONE + RECORD) as voice:
        await voice.turn_on()
        await voice.say()
        await voice.state("Speak to interrupt")
        first = (await voice.got("turn.started"))["turn_id"]
        voice.hears.texts = [""]  # a cough
        begun = len(voice.events)
        await voice.speak(True)
        await voice.got("turn.held", begun)
        await voice.page.wait_for_timeout(150)
        await voice.speak(False)
        await voice.got("turn.resumed", begun)
        await voice.page.wait_for_timeout(800)
        voice.hears.texts = ["stop"]
        begun = len(voice.events)
        await voice.speak(True)
        end = await voice.got("turn.ended", begun)
        await voice.speak(False)
        assert (end["turn_id"], end["reason"]) == (first, "barge_in")
        played = await voice.played()
        *whole, (last, samples) = played
        assert whole == [(number, WORD) for number in range(1, last)]
        played_ms = sum(count for _, count in played) * 1000 / RATE
        assert abs(end["heard"]["audio_ms"] - played_ms) <= HEARD_MS
        heard = len(end["heard"]["text"].split())
        assert heard in ({last - 1, last} if samples < WORD else {last})
        await voice.chat.ended(voice.turn(1), "completed")
        answer = [number for number, count in await voice.played() if count == WORD and number > last]
        assert len(answer) == len(["You", "said", "stop."])
        assert voice.chat.faults == []


async def test_a_barge_in_is_a_picture(browser: Browser) -> None:
    """The inspector draws the way from the first sound to the next answer, and a cough up to its end."""
    async with speaking(browser, "talk") as voice:
        await voice.page.click("#toggle-inspector")
        await voice.turn_on()
        await voice.say()
        await voice.got("audio.delta")
        voice.hears.texts = [""]
        await voice.speak(True)
        await voice.got("turn.held")
        await voice.speak(False)
        await voice.page.locator("#timeline", has_text="the answer went on").wait_for()
        await voice.page.wait_for_timeout(800)
        voice.hears.texts = ["stop"]
        await voice.speak(True)
        await voice.page.locator("#timeline", has_text="you interrupted the answer").wait_for()
        await voice.speak(False)
        picture = voice.page.locator("#timeline svg[aria-label*='answered']")
        label = await picture.get_attribute("aria-label") or ""
        times = [float(ms) for ms in re.findall(r"at ([\d.]+) ms", label)]
        assert re.findall(r"(\w+) at", label) == ["spoke", "silent", "ended", "understood", "answered"]
        assert times == sorted(times)
        assert 30 <= times[1] < 1500
        if folder := os.environ.get("BARGEIN_PICTURES"):
            await voice.page.screenshot(path=f"{folder}/barge_in.png")
        assert voice.chat.faults == []


async def test_talking_while_a_key_is_held(browser: Browser) -> None:
    """The microphone is on only as long as the key is down."""
    async with speaking(browser, "hello") as voice:
        await voice.page.keyboard.down("Control")
        await voice.page.keyboard.down("Space")
        await voice.page.wait_for_function("() => window.speak !== undefined")
        await voice.state("Speak, then release the key")
        await voice.speak(True)
        await voice.state("You are speaking")
        await voice.page.wait_for_timeout(600)
        await voice.page.keyboard.up("Space")
        await voice.page.keyboard.up("Control")
        await voice.chat.ended(voice.turn(0), "completed")
        assert await voice.page.locator("#voice").is_hidden()


async def test_words_are_shown_while_they_are_said(browser: Browser) -> None:
    """As far as the recogniser is sure; they leave with the message that they become."""
    recogniser = FakeStreaming("What time is it in Lisbon? Tell me now.")
    async with speaking(browser, recogniser=recogniser, speech_partial_s=0.3) as voice:
        await voice.turn_on()
        await voice.speak(True)
        await voice.page.locator("#voice-words", has_text="What time is it in").wait_for()
        await voice.state("You are speaking")
        await voice.speak(False)
        await voice.chat.ended(voice.turn(0), "completed")
        assert await voice.page.locator("#voice-words").text_content() == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NotAllowedError", "Allow it in the address bar"),
        ("NotFoundError", "There is no microphone"),
        ("NotReadableError", "Another program uses the microphone"),
        ("AbortError", "could not be opened"),
    ],
)
async def test_a_microphone_that_is_not_given(browser: Browser, name: str, words: str) -> None:
    """Its cause and the way on are said, and typing works."""
    async with speaking(browser, "hello", script=REFUSED.replace("NAME", name)) as voice:
        await voice.page.click("#toggle-listening")
        await voice.told(words)
        assert await voice.page.get_attribute("#toggle-listening", "aria-pressed") == "false"
        await voice.chat.ended(await voice.chat.say("typed"), "completed")


async def test_a_microphone_that_is_unplugged(browser: Browser) -> None:
    """It is off, and the page says so."""
    async with speaking(browser, "hello") as voice:
        await voice.turn_on()
        await voice.state("Listening")
        await voice.page.evaluate("window.unplug()")
        await voice.told("was disconnected")
        assert await voice.page.locator("#voice").is_hidden()
