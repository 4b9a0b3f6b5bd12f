"""An agent that speaks: words in order, not far ahead, heard to the word, held and cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bargein_protocol import AudioDelta, AudioFormat, Status, TextDelta, Thought
from bargein_server import Turn
from bargein_server.agent import TurnFailed
from bargein_server.voice.interfaces import Voice
from bargein_server.voice.sound import decoded
from bargein_server.voice.speaking import Speaking, speaking
from fake_voice import WORD_MS, FakeVoice

pytestmark = pytest.mark.virtual_time

RATE = 8000


class Host:
    """Host of a turn, with a player whose position the test sets.

    Attributes:
        played_ms: The reported position.
        sections: Log of sections.
    """

    def __init__(self) -> None:
        self.played_ms: int | None = None
        self.emitted: list[Any] = []
        self.sections: list[str] = []

    async def emit(self, output: Any) -> None:
        self.emitted.append(output)

    @asynccontextmanager
    async def section(self) -> AsyncIterator[None]:
        self.sections.append("entered")
        yield
        self.sections.append("left")


class Session:
    """Session of a client that takes audio."""

    def __init__(self, audio: AudioFormat | None) -> None:
        self.audio = audio


def turn_of(audio: AudioFormat | None, host: Host) -> Turn:
    """Return a turn."""
    return Turn("t1", None, None, Session(audio), host)  # type: ignore[arg-type]


PCM = AudioFormat(encoding="pcm16", rate=RATE)


async def outputs_of(agent: Speaking, audio: AudioFormat | None = PCM, host: Host | None = None) -> list[Any]:
    """Return all outputs of a turn."""
    return [output async for output in agent(turn_of(audio, host or Host()))]


def spans(outputs: list[Any]) -> list[tuple[int, int, str | None]]:
    """Return start, duration and text of the sound."""
    return [
        (output.start_ms, output.duration_ms, output.text)
        for output in outputs
        if isinstance(output, AudioDelta)
    ]


async def chatty(turn: Turn) -> AsyncIterator[Any]:
    """Say two sentences, with other output between."""
    yield "So it "
    yield turn.status("thinking")
    yield TextDelta(text="goes. ")
    yield Thought(text="hm")
    yield TextDelta(text="from another lane", source="second")
    yield "Yes."


async def test_text_becomes_words_of_sound_and_the_rest_passes() -> None:
    """The words of all spans are the text; the spans follow each other without a gap."""
    outputs = await outputs_of(speaking(chatty, FakeVoice(RATE)))
    assert spans(outputs) == [(0, 100, "So"), (100, 100, " it"), (200, 100, " goes."), (300, 100, " Yes.")]
    others = [type(output) for output in outputs if not isinstance(output, AudioDelta)]
    assert others == [Status, Thought, TextDelta]
    samples = [set(decoded(output.audio, "pcm16").tolist()) for output in outputs if hasattr(output, "audio")]
    assert [len(values) for values in samples] == [1, 1, 1, 1]


async def test_a_client_without_audio_gets_text_and_nothing_is_synthesised() -> None:
    """As without the operator."""
    voice = FakeVoice()
    outputs = await outputs_of(speaking(chatty, voice), None)
    assert outputs[0] == "So it "
    assert len(outputs) == 6
    assert voice.said == []


@pytest.mark.parametrize(
    "audio",
    [AudioFormat(encoding="pcm16", rate=24_000), AudioFormat(encoding="mulaw", rate=8_000)],
    ids=["24 kHz", "μ-law"],
)
async def test_sound_comes_in_the_negotiated_format(audio: AudioFormat) -> None:
    """Resampled as one stream for a sentence; durations add up to the samples."""
    outputs = await outputs_of(speaking(chatty, FakeVoice(RATE)), audio)
    size = audio.sample_bytes
    total = sum(len(output.audio) for output in outputs if isinstance(output, AudioDelta)) // size
    assert abs(total - audio.rate * 0.4) <= audio.rate * 0.006
    last = spans(outputs)[-1]
    assert last[0] + last[1] == total * 1000 // audio.rate
    assert "".join(text or "" for _, _, text in spans(outputs)) == "So it goes. Yes."


async def long_answer(turn: Turn) -> AsyncIterator[str]:
    """Say fifty words."""
    yield "word " * 50


async def test_sound_is_sent_a_little_ahead_of_the_player() -> None:
    """The player reports; while it stands still nothing is sent, and the end waits for it."""
    host, outputs = Host(), list[Any]()

    async def run() -> None:
        async for output in speaking(long_answer, FakeVoice(RATE), 0.4)(turn_of(PCM, host)):
            outputs.append(output)

    running = asyncio.create_task(run())
    host.played_ms = 0
    await asyncio.sleep(2)
    # 0.4 s, what the clock adds to a report, and the word that is not cut.
    assert 400 <= len(outputs) * WORD_MS <= 400 + 250 + WORD_MS
    for played in range(0, 5001, 100):
        host.played_ms = played
        await asyncio.sleep(0.1)
        assert 400 <= len(outputs) * WORD_MS - played <= 900 or len(outputs) == 50
    await running
    assert len(outputs) == 50


async def test_the_turn_ends_when_its_sound_was_played() -> None:
    """By the reports, and by the clock without them or when the client is away."""
    loop = asyncio.get_running_loop()
    for reports, least, most in ((None, 5.0, 5.2), (0, 6.0, 10.0)):
        host = Host()
        before = loop.time()
        if reports is None:
            await outputs_of(speaking(long_answer, FakeVoice(RATE)), PCM, host)
        else:

            async def play(host: Host = host) -> None:
                for played in range(0, 4000, 100):
                    host.played_ms = played
                    await asyncio.sleep(0.1)

            playing = asyncio.create_task(play())  # the line breaks before the last second
            await outputs_of(speaking(long_answer, FakeVoice(RATE)), PCM, host)
            await playing
        assert least <= loop.time() - before <= most


async def test_an_interrupt_ends_the_agent_and_the_voice() -> None:
    """Both are closed before the generator has ended."""
    closed = asyncio.Event()

    async def endless(turn: Turn) -> AsyncIterator[str]:
        try:
            while True:
                yield "word. "
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    voice = FakeVoice(RATE)

    async def run() -> None:
        async for _ in speaking(endless, voice)(turn_of(PCM, Host())):
            pass

    running = asyncio.create_task(run())
    await asyncio.sleep(3)
    assert len(voice.said) < 60, "the agent is read far ahead"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert closed.is_set()


async def test_a_section_is_left_when_its_sound_was_played() -> None:
    """A legal sentence counts as said when it was heard, not when it was written."""

    async def legal(turn: Turn) -> AsyncIterator[str]:
        async with turn.uninterruptible():
            yield "This call may be recorded"
        yield " and so on."

    host, loop = Host(), asyncio.get_running_loop()
    left: list[float] = []
    before = loop.time()

    async def watch() -> None:
        while "left" not in host.sections:
            await asyncio.sleep(0.01)
        left.append(loop.time() - before)

    watching = asyncio.create_task(watch())
    await outputs_of(speaking(legal, FakeVoice(RATE)), PCM, host)
    await watching
    assert 0.5 <= left[0] <= 0.7


async def test_text_of_callbacks_is_spoken_too() -> None:
    """And other output of theirs passes."""

    async def emitting(turn: Turn) -> AsyncIterator[str]:
        await turn.emit("Hello there.")
        await turn.emit(turn.status("busy"))
        yield " Bye."

    host = Host()
    outputs = await outputs_of(speaking(emitting, FakeVoice(RATE)), PCM, host)
    assert "".join(text or "" for _, _, text in spans(outputs)) == "Hello there. Bye."
    assert host.emitted == [Status(message="busy")]


async def test_an_agent_that_fails_is_heard_up_to_there() -> None:
    """Then its error counts."""

    async def failing(turn: Turn) -> AsyncIterator[str]:
        yield "One. Two"
        raise ValueError("broken")

    outputs: list[Any] = []
    with pytest.raises(ValueError, match="broken"):  # noqa: PT012
        async for output in speaking(failing, FakeVoice(RATE))(turn_of(PCM, Host())):
            outputs.append(output)
    assert "".join(text or "" for _, _, text in spans(outputs)) == "One. Two"


async def test_a_voice_that_fails_fails_the_turn() -> None:
    """With a public reason, and nothing of the text."""
    voice = FakeVoice(RATE)
    voice.failing = True
    with pytest.raises(TurnFailed) as failed:
        await outputs_of(speaking(chatty, voice))
    assert (failed.value.reason, failed.value.retryable) == ("upstream", True)


async def test_without_word_times_the_words_are_estimated() -> None:
    """From the second sentence on by the pace of the voice."""

    async def three(turn: Turn) -> AsyncIterator[str]:
        yield "aaaa bbbb cccc. aaaa bbbb cccc. aaaa bbbb cccc."

    outputs = await outputs_of(speaking(three, FakeVoice(RATE, word_times=False)))
    found = spans(outputs)
    assert "".join(text or "" for _, _, text in found) == "aaaa bbbb cccc. aaaa bbbb cccc. aaaa bbbb cccc."
    assert sum(ms for _, ms, _ in found) == 900
    assert max(ms for _, ms, _ in found[3:]) <= 150


def test_the_arguments_are_checked() -> None:
    """And the name is the agent's."""
    voice: Voice = FakeVoice()
    with pytest.raises(ValueError, match="ahead_s"):
        speaking(chatty, voice, -1)
    assert speaking(chatty, voice).__name__ == "chatty"
