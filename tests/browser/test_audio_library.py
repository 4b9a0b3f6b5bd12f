"""Loudspeaker and microphone of the JavaScript client in Chromium, without the page.

The test records the loudspeaker's samples, and compares their number with what the player counts and what the
server says was heard.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from bargein_protocol import AudioDelta
from bargein_server import Turn
from fake_voice import FakeVoice, Reader, fake_parts
from live_server import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

RATE = 24_000
WORD_MS, WORDS = 100, 30
AUDIO = {"input": {"encoding": "pcm16", "rate": 16_000}, "output": {"encoding": "pcm16", "rate": RATE}}

TAP = """
registerProcessor("tap", class extends AudioWorkletProcessor {
    process(inputs) {
        const loud = inputs[0][0]?.reduce((sum, sample) => sum + (sample !== 0), 0);
        if (loud) this.port.postMessage(loud);
        return true;
    }
});
"""
"""Counts the samples on the audio thread."""
BEGIN = """async ([audio, tap]) => {
    const load = AudioWorklet.prototype.addModule;
    AudioWorklet.prototype.addModule = async function (url) {
        await load.call(this, "data:text/javascript," + encodeURIComponent(tap));
        await load.call(this, url);
    };
    const { connect } = await import("/static/bargein/index.js");
    const { AudioPlayer, AudioRecorder, RecorderError } = await import("/static/bargein/audio/index.js");
    window.loud = 0;
    window.final = {};
    const player = new AudioPlayer({
        onPlayed: (turn, played) => {
            window.played = played;
            if (played.final) window.final[turn] = played;
        },
        destination: (context) => {
            const tap = new AudioWorkletNode(context, "tap");
            tap.port.onmessage = ({ data }) => { window.loud += data; };
            tap.connect(context.destination);
            return tap;
        },
    });
    window.reports = [];
    const session = await connect("/", { audio });
    session.on("sent", (event) => { if (event.type === "playback") window.reports.push(event.audio_ms); });
    const detach = player.attach(session);
    Object.assign(window, { session, player, detach, AudioRecorder, RecorderError });
}"""
PLAYED = "(ms) => window.player.playing !== null && window.player.playedMs(window.player.playing) >= ms"
SILENT = "() => window.player.playing === null"
TONE = """
navigator.mediaDevices.getUserMedia = async (wanted) => {
    window.wanted = wanted.audio;
    const context = new AudioContext();
    const tone = new OscillatorNode(context, { frequency: 300 });
    const gain = new GainNode(context, { gain: 0.5 });
    const made = context.createMediaStreamDestination();
    tone.connect(gain).connect(made);
    tone.start();
    window.speak = (loud) => { gain.gain.value = loud ? 0.5 : 0; };
    window.track = made.stream.getTracks()[0];
    return made.stream;
};
"""


async def counter(turn: Turn) -> AsyncIterator[Any]:
    """Speak words of 100 ms, all at once; "short" has three."""
    pcm = array("h", [8000] * (RATE * WORD_MS // 1000)).tobytes()
    for number in range(3 if turn.text == "short" else WORDS):
        yield AudioDelta(audio=pcm, start_ms=WORD_MS * number, duration_ms=WORD_MS, text=f"w{number} ")


@asynccontextmanager
async def listening(browser: Browser, agent: Any = counter, **options: Any) -> AsyncIterator[Page]:
    """Open an empty page with a session, a player and a recorder."""
    async with serving(agent, **options) as server:
        page = await browser.new_page(bypass_csp=True)
        try:
            await page.add_init_script(TONE)
            await page.goto(f"http://127.0.0.1:{server.port}/healthz")
            await page.evaluate(BEGIN, [AUDIO, TAP])
            yield page
        finally:
            await page.close()


async def counts(page: Page) -> tuple[int, int, int]:
    """Wait for silence; return the samples that were sent, played and dropped."""
    await page.wait_for_function(SILENT)
    await page.wait_for_timeout(100)  # messages of the tap
    played = await page.evaluate("window.played")
    assert played["final"]
    assert await page.evaluate("window.loud") == played["played"]
    return played["sent"], played["played"], played["dropped"]


async def test_everything_is_played_and_reported(browser: Browser) -> None:
    """To the last sample; the last report is the whole."""
    async with listening(browser) as page:
        await page.evaluate("async () => { await session.send('short').ended(); }")
        whole = 3 * RATE * WORD_MS // 1000
        assert await counts(page) == (whole, whole, 0)
        assert (await page.evaluate("window.reports"))[-1] == 300


@pytest.mark.parametrize("by", ["turn", "server"])
async def test_an_interrupt_is_heard_to_the_sample(browser: Browser, by: str) -> None:
    """Silence at once; what the server says was heard is what the loudspeaker got."""
    async with listening(browser) as page:
        await page.evaluate("() => { window.turn = session.send('long'); }")
        await page.wait_for_function(PLAYED, arg=450)
        if by == "turn":
            await page.evaluate("async () => { await window.turn.interrupt(); }")
        else:  # the turn has ended on the server, which knows the rest from reports
            await page.evaluate("() => window.player.flush()")
        sent, played, dropped = await counts(page)
        assert sent == WORDS * RATE * WORD_MS // 1000
        assert played + dropped == sent
        assert 450 <= played * 1000 / RATE <= 900
        assert (await page.evaluate("window.reports"))[-1] == played * 1000 // RATE
        await asyncio.sleep(0.1)
        assert await page.evaluate("window.loud") == played


async def test_a_held_turn_pauses_and_goes_on(browser: Browser) -> None:
    """No sample is lost; while it is held none is played."""

    async def slow(turn: Turn) -> AsyncIterator[Any]:
        async for output in counter(turn):
            yield output
        await asyncio.sleep(2)

    async with listening(browser, slow) as page:
        await page.evaluate("() => { window.turn = session.send('short'); }")
        await page.wait_for_function(PLAYED, arg=50)
        await page.evaluate("async () => { await window.turn.hold(); }")
        await page.wait_for_timeout(150)
        before = await page.evaluate("window.loud")
        await page.wait_for_timeout(300)
        assert await page.evaluate("window.loud") == before
        await page.evaluate("async () => { await window.turn.resume(); }")
        whole = 3 * RATE * WORD_MS // 1000
        assert await counts(page) == (whole, whole, 0)


async def test_a_player_that_is_detached_falls_silent(browser: Browser) -> None:
    """And plays no further turn."""
    async with listening(browser) as page:
        await page.evaluate("() => { window.turn = session.send('long'); }")
        await page.wait_for_function(PLAYED, arg=200)
        await page.evaluate("() => window.detach()")
        await page.wait_for_function(SILENT)
        await page.evaluate("async () => { await session.send('short').ended(); }")
        await page.wait_for_timeout(200)
        assert await page.evaluate("window.player.playing") is None


RECORD = """async () => {
    window.pieces = [];
    window.recorder = new AudioRecorder({
        rate: 16000,
        onSound: (sound, peak) => window.pieces.push([sound.length, peak]),
        onEnded: () => { window.ended = true; },
    });
    try {
        await window.recorder.start();
    } catch (error) {
        return [error instanceof RecorderError, error.fault];
    }
    return null;
}"""


async def test_a_recorder_gives_pieces_until_it_stops(browser: Browser) -> None:
    """20 ms each, with echo cancellation; the microphone is released."""
    async with listening(browser) as page:
        assert await page.evaluate(RECORD) is None
        await page.wait_for_function("() => window.pieces.length > 20")
        assert await page.evaluate("window.wanted.echoCancellation")
        assert {length for length, _ in await page.evaluate("window.pieces")} == {320}
        assert 0.4 <= (await page.evaluate("window.pieces"))[-1][1] <= 0.6
        await page.evaluate("() => window.recorder.stop()")
        await page.wait_for_function("() => window.track.readyState === 'ended'")
        count = await page.evaluate("window.pieces.length")
        await page.wait_for_timeout(100)
        assert await page.evaluate("window.pieces.length") == count
        await page.evaluate("() => { recorder.start(); recorder.stop(); }")
        await page.wait_for_function("() => window.track.readyState === 'ended' && !window.recorder.isOn")


async def test_a_microphone_that_is_unplugged(browser: Browser) -> None:
    """It is reported once."""
    async with listening(browser) as page:
        assert await page.evaluate(RECORD) is None
        await page.evaluate("() => window.track.dispatchEvent(new Event('ended'))")
        await page.wait_for_function("() => window.ended && !window.recorder.isOn")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("NotAllowedError", "denied"),
        ("NotFoundError", "missing"),
        ("NotReadableError", "busy"),
        ("X", "failed"),
    ],
)
async def test_a_refused_microphone(browser: Browser, name: str, fault: str) -> None:
    """The cause is a property, for words of the application."""
    async with listening(browser) as page:
        await page.evaluate(
            """(name) => {
                navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("no", name); };
            }""",
            name,
        )
        assert await page.evaluate(RECORD) == [True, fault]
        assert not await page.evaluate("window.recorder.isOn")


async def test_a_whole_conversation(browser: Browser) -> None:
    """Spoken, understood, answered aloud; then cut by voice."""

    async def talker(turn: Turn) -> AsyncIterator[str]:
        yield "word " * 40 if turn.text == "talk" else "You said it."

    parts = fake_parts(voice=FakeVoice(RATE), recogniser=Reader("talk", "stop it"))
    async with listening(browser, talker, voice=parts) as page:
        await page.evaluate(
            """async () => {
                window.ends = [];
                const ended = ({ reason, heard }) => window.ends.push([reason, heard.audio_ms]);
                session.on("turn.ended", ended);
                const { rate } = session.microphone.format;
                const onSound = (sound) => session.microphone.send(sound);
                window.recorder = new AudioRecorder({ rate, onSound });
                await window.recorder.start();
            }"""
        )
        await page.wait_for_timeout(700)
        await page.evaluate("() => window.speak(false)")
        await page.wait_for_function(PLAYED, arg=300)
        await page.evaluate("() => window.speak(true)")
        await page.wait_for_function("() => window.ends.length > 0")
        await page.evaluate("() => window.speak(false)")
        reason, heard_ms = (await page.evaluate("window.ends"))[0]
        assert reason == "barge_in"
        cut = (await page.evaluate("Object.values(window.final)"))[0]
        assert 0 <= cut["audioMs"] - heard_ms <= 120
