"""A server with ears and a voice, by its socket: all parts are fakes, time is real, sound comes at once."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bargein_server import Turn
from bargein_server.voice.interfaces import Spoken, VoiceParts
from bargein_server.voice.sound import encoded
from fake_voice import (
    COUGH,
    WORD_MS,
    FakeDetector,
    FakeRecogniser,
    FakeStreaming,
    FakeVoice,
    babble,
    fake_parts,
    silence,
    spoken,
)
from live_server import RawClient, Serving, serving
from waiting import until

if TYPE_CHECKING:
    from bargein_server.voice.interfaces import Samples

FORMAT = {"encoding": "pcm16", "rate": 16_000}
AUDIO = {"input": FORMAT, "output": FORMAT}


async def talker(turn: Turn) -> AsyncIterator[str]:
    """Count for long to "talk", and repeat everything else."""
    yield "word " * 25 if turn.text == "talk" else f"You said {turn.text}."


class Line:
    """A client that has sent `session.open`."""

    def __init__(self, client: RawClient, opened: dict[str, Any]) -> None:
        self.client = client
        self.opened = opened

    async def say(self, *sounds: bytes) -> None:
        """Send sound in pieces of 100 ms."""
        sound = b"".join(sounds)
        for start in range(0, len(sound), 3200):
            audio = base64.b64encode(sound[start : start + 3200]).decode()
            await self.client.send({"type": "input.audio", "audio": audio})

    async def until(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Read events until one of a kind; return all."""
        events = [await self.client.receive()]
        while events[-1]["type"] != kind or not fields.items() <= events[-1].items():
            events.append(await self.client.receive())
        return events


@asynccontextmanager
async def calling(served: Serving, audio: dict[str, Any] | None = None) -> AsyncIterator[Line]:
    """Call a server."""
    async with served.connect() as client:
        await client.send({"type": "session.open", "audio": AUDIO if audio is None else audio})
        yield Line(client, await client.receive())


@asynccontextmanager
async def hearing(parts: VoiceParts | None = None, **settings: Any) -> AsyncIterator[tuple[Serving, Line]]:
    """Run a server and call it."""
    parts = parts or fake_parts(voice=FakeVoice())
    async with serving(talker, voice=parts, **settings) as served, calling(served) as line:
        yield served, line


async def talking(line: Line) -> str:
    """Let the agent talk; return its turn."""
    await line.client.send({"type": "input.text", "id": "i1", "text": "talk"})
    return str((await line.until("audio.delta"))[-1]["turn_id"])


def kinds(events: list[dict[str, Any]]) -> list[str]:
    """Return the kinds of events, those of output once."""
    found: list[str] = []
    for event in events:
        if not found or found[-1] != event["type"]:
            found.append(event["type"])
    return found


async def test_what_is_said_becomes_an_input_and_its_answer_is_spoken() -> None:
    """Speech, transcript, input and turn in this order; the recogniser got the sound with its prefix."""
    recogniser = FakeRecogniser()
    async with hearing(fake_parts(voice=FakeVoice(), recogniser=recogniser)) as (_, line):
        assert line.opened["audio"]["input"] == FORMAT
        await line.say(silence(500), spoken("hello", 600), silence(700))
        events = await line.until("turn.ended")
        assert kinds(events) == [
            "speech.started", "speech.stopped", "transcript.done", "input.accepted", "turn.started",
            "audio.delta", "turn.ended",
        ]  # fmt: skip
        assert "".join(event.get("text", "") for event in events if event["type"] == "audio.delta") == (
            "You said hello."
        )
        assert events[-1]["heard"]["text"] == "You said hello."
        assert 480 <= events[0]["at_ms"] <= 520
        assert [quick for _, quick in recogniser.asked] == [False]
        assert 0.9 <= recogniser.asked[0][0] <= 1.4


async def test_words_end_the_turn_that_they_interrupt() -> None:
    """Held at once, ended when the words are known; heard is not the whole."""
    async with hearing() as (_, line):
        turn_id = await talking(line)
        await line.say(silence(200), spoken("stop that", 700), silence(700))
        events = await line.until("turn.ended")
        order = [kind for kind in kinds(events) if kind not in ("audio.delta", "speech.stopped")]
        assert order[:3] == ["speech.started", "turn.held", "turn.ended"]
        ended = events[-1]
        assert (ended["turn_id"], ended["status"], ended["reason"]) == (turn_id, "interrupted", "barge_in")
        assert ended["heard"]["text"].count("word") < 20
        answer = await line.until("turn.ended", status="completed")
        assert "You said stop that." in "".join(event.get("text") or "" for event in answer)


@pytest.mark.parametrize("said", [COUGH, "okay"])
async def test_a_cough_holds_the_turn_for_a_moment(said: str) -> None:
    """It goes on where it was, no sound is lost, and nobody is asked."""
    async with hearing() as (_, line):
        turn_id = await talking(line)
        await line.say(silence(200), spoken(said, 200), silence(900))
        events = await line.until("turn.ended")
        assert [kind for kind in kinds(events) if kind.startswith("turn")] == [
            "turn.held", "turn.resumed", "turn.ended",
        ]  # fmt: skip
        assert "input.accepted" not in kinds(events)
        assert (events[-1]["turn_id"], events[-1]["status"]) == (turn_id, "completed")
        spans = [event for event in events if event["type"] == "audio.delta"]
        for before, after in pairwise(spans):
            assert before["start_ms"] + before["duration_ms"] == after["start_ms"]


@pytest.mark.parametrize("fault", ["failing", "late"])
async def test_without_words_the_held_turn_goes_on(fault: str) -> None:
    """The recogniser fails, or takes too long: the client learns it, the turn is not lost."""
    recogniser = FakeRecogniser()
    async with hearing(
        fake_parts(voice=FakeVoice(), recogniser=recogniser), recognition_s=0.3, metrics=True
    ) as (
        served,
        line,
    ):
        turn_id = await talking(line)
        recogniser.failing, recogniser.delay_s = fault == "failing", 60.0
        await line.say(silence(200), spoken("stop that", 500), silence(900))
        events = await line.until("turn.ended")
        errors = [event for event in events if event["type"] == "error"]
        assert errors
        assert {(error["code"], error["retryable"]) for error in errors} == {("upstream", True)}
        assert (events[-1]["turn_id"], events[-1]["status"]) == (turn_id, "completed")
        status, _, metrics = await served.request("/metrics")
        assert status == 200
        result = "failed" if fault == "failing" else "late"
        counted = re.search(
            rb'bargein_recognitions_total\{kind="\w+",result="%s"\} (\d)' % result.encode(), metrics
        )
        assert counted is not None
        assert int(counted[1]) >= 1
        assert b'bargein_speech_verdict_seconds_count{decision="resume"} 1.0' in metrics
        assert b'bargein_speech_hold_seconds_bucket{le="0.1"} 1.0' in metrics
        assert b"bargein_listeners 1.0" in metrics


async def test_push_to_talk_takes_all_sound_before_the_commit() -> None:
    """Without detection the recogniser gets what was sent, and the input has the client's id."""
    async with serving(talker, voice=fake_parts(voice=FakeVoice())) as served:
        wanted = {**AUDIO, "turn_detection": {"type": "none"}}
        async with calling(served, wanted) as line:
            await line.say(spoken("hello", 500))
            await line.client.send({"type": "input.commit", "id": "push1"})
            events = await line.until("turn.ended")
            assert kinds(events)[0] == "transcript.done"
            assert events[0]["text"] == "hello"
            assert events[1]["input_id"] == "push1"
            await line.client.send({"type": "input.commit", "id": "push2"})
            rejected = (await line.until("input.rejected"))[-1]
            assert (rejected["input_id"], rejected["code"]) == ("push2", "no_speech")


async def test_a_full_server_takes_no_more_ears() -> None:
    """The session lives without input audio; a place that was left is taken again."""
    async with hearing(max_listeners=1) as (served, line):
        ears = served.sessions.ears
        assert ears is not None
        assert ears.listeners == 1
        async with calling(served) as second:
            assert "input" not in second.opened["audio"]
            error = (await second.until("error"))[-1]
            assert error["code"] == "at_capacity"
        await line.client.socket.close()
        await until(lambda: ears.listeners == 0, "the place")
        async with calling(served) as third:
            assert third.opened["audio"]["input"] == FORMAT
            await third.say(silence(200), spoken("hello", 400), silence(700))
            await third.until("turn.ended")
        await until(lambda: ears.listeners == 0, "the place")
        assert ears.thread.ears == 0


async def test_a_server_without_ears_says_so() -> None:
    """The answer has no input; audio all the same is unsupported; text is not spoken."""
    async with serving(talker) as served, calling(served) as line:
        assert "input" not in (line.opened.get("audio") or {})
        await line.say(silence(100))
        assert (await line.until("error"))[-1]["code"] == "unsupported"


async def test_a_client_that_only_reads_is_not_spoken_to() -> None:
    """Nothing is synthesised for it."""
    voice = FakeVoice()
    async with serving(talker, voice=fake_parts(voice=voice)) as served:
        async with served.connect() as client:
            await client.send({"type": "session.open"})
            line = Line(client, await client.receive())
            await client.send({"type": "input.text", "id": "i1", "text": "hi"})
            events = await line.until("turn.ended")
    assert "audio.delta" not in kinds(events)
    assert voice.said == []


async def test_the_agents_own_voice_does_not_hold_it() -> None:
    """The microphone hears the loudspeaker: counted, and the turn goes on without a pause."""

    class Talk(FakeVoice):
        """Voice with sound that is like speech."""

        async def say(self, text: str) -> AsyncGenerator[Spoken, None]:
            words = tuple((5 * number, WORD_MS * number) for number in range(25))
            yield Spoken(encoded(babble(2.5, 3)), words)

    class Late(FakeDetector):
        """Detector that takes the first 0.7 s for no speech."""

        def speech(self, frames: Sequence[tuple[object, Samples]]) -> list[float]:
            found = super().speech(frames)
            return found if len(self.batches) > 22 else [0.0] * len(found)

    async with hearing(fake_parts(voice=Talk(16_000), detector=Late())) as (served, line):
        await talking(line)
        await line.until("audio.delta", start_ms=1000)
        echo = babble(2.5, 3)[:16_000] * np.float32(0.6)
        await line.say(encoded(echo), silence(300))
        events = await line.until("turn.ended")
        assert "turn.held" not in kinds(events)
        ears = served.sessions.ears
        assert ears is not None
        assert ears.echoes >= 1


async def test_words_come_while_they_are_said() -> None:
    """Pieces that append, the whole at the end; dictations are closed with their session."""
    recogniser = FakeStreaming("hello there")
    async with hearing(fake_parts(recogniser=recogniser), speech_partial_s=0.3) as (_, line):
        for _ in range(2):
            await line.say(silence(200), spoken("", 900), silence(100))
            events = await line.until("transcript.delta")
            assert kinds(events)[-2:] == ["speech.started", "transcript.delta"]
            assert events[-1]["text"] == "hello"
            await line.say(silence(800))
            events = await line.until("turn.ended")
            texts = [event["text"] for event in events if event["type"] == "transcript.delta"]
            assert texts == [" ther"]
            [done] = [event["text"] for event in events if event["type"] == "transcript.done"]
            assert done == "hello there"
        assert len(recogniser.dictations) == 2
        await line.client.socket.close()
        await until(lambda: all(each.closed for each in recogniser.dictations), "the dictations' end")
