"""A model that hears and speaks, at a fake upstream, and at bargein's own Realtime door."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from bargein_server import Turn
from bargein_server.speech_models.realtime import RealtimeAgent
from bargein_server.speech_models.speech_text import TimedWords
from fake_voice import COUGH, FakeRecogniser, FakeVoice, fake_parts, silence, spoken
from live_server import RawClient, serving
from realtime_sound import listening, talker
from realtime_upstream import Answer, RealtimeUpstream, realtime_upstream
from waiting import until

FORMAT = {"encoding": "pcm16", "rate": 16_000}
AUDIO = {"input": FORMAT, "output": FORMAT}


class Line:
    """A client with a microphone, which reports what it plays at once."""

    def __init__(self, client: RawClient) -> None:
        self.client = client
        self.played: dict[str, int] = {}
        self.reporting = True

    async def say(self, *sounds: bytes) -> None:
        """Send sound in pieces of 100 ms."""
        sound = b"".join(sounds)
        for start in range(0, len(sound), 3200):
            audio = base64.b64encode(sound[start : start + 3200]).decode()
            await self.client.send({"type": "input.audio", "audio": audio})

    async def ask(self, text: str, id: str = "i1") -> None:
        """Type an input."""
        await self.client.send({"type": "input.text", "id": id, "text": text})

    async def until(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Read events until one of a kind; return all."""
        events: list[dict[str, Any]] = []
        while not events or events[-1]["type"] != kind or not fields.items() <= events[-1].items():
            events.append(await self.client.receive())
            event = events[-1]
            if event["type"] == "audio.delta" and self.reporting:
                end = event["start_ms"] + event["duration_ms"]
                await self.client.send({"type": "playback", "turn_id": event["turn_id"], "audio_ms": end})
        return events


@asynccontextmanager
async def calling(
    upstream: RealtimeUpstream, audio: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Line]:
    """Serve the agent and call it."""
    agent = RealtimeAgent(base_url=upstream.url, api_key="secret", **options)
    async with serving(agent, voice=fake_parts(recogniser=FakeRecogniser())) as served:
        async with served.connect() as client:
            await client.send({"type": "session.open", "audio": AUDIO if audio is None else audio})
            await client.receive()
            yield Line(client)
    await until(lambda: not upstream.open, "the upstream's end")


async def sounding(line: Line, ms: int) -> None:
    """Read events until so much sound came."""
    while (await line.until("audio.delta"))[-1]["start_ms"] < ms:
        pass


def text_of(events: list[dict[str, Any]]) -> str:
    """Return the words of an answer."""
    return "".join(event.get("text") or "" for event in events if event["type"] == "audio.delta")


async def test_the_model_hears_and_speaks() -> None:
    """It gets the sound of the utterance; its words go out with its sound, in order and complete."""
    async with (
        realtime_upstream() as upstream,
        calling(upstream, voice="marin", instructions="Be kind.") as line,
    ):
        upstream.answers.append(Answer("Hello there, my friend.", ms=1500))
        await line.say(silence(400), spoken("hi", 600), silence(700))
        events = await line.until("turn.ended")
        assert (events[-1]["status"], events[-1]["usage"]) == (
            "completed", {"input_tokens": 7, "output_tokens": 3},
        )  # fmt: skip
        assert next(event["text"] for event in events if event["type"] == "transcript.done") == "hi"
        assert text_of(events) == "Hello there, my friend."
        sound = [event for event in events if event["type"] == "audio.delta"]
        assert len([event for event in sound if event.get("text")]) >= 3
        for before, after in pairwise(sound):
            assert before["start_ms"] + before["duration_ms"] == after["start_ms"]
        assert sum(event["duration_ms"] for event in sound) == pytest.approx(1500, abs=5)
        [heard] = upstream.heard
        loud = np.abs(np.frombuffer(heard, "<i2").astype(int)) > 8000
        assert loud.sum() / 24 == pytest.approx(600, abs=20)
        [session] = [event["session"] for event in upstream.of("session.update")]
        assert session["audio"]["output"]["voice"] == "marin"
        assert session["audio"]["input"]["turn_detection"] is None
        assert session["instructions"] == "Be kind."
        assert upstream.headers["Authorization"] == "Bearer secret"


async def test_a_barge_in_cancels_and_truncates() -> None:
    """Within 100 ms, at what was heard; the conversation goes on over the same connection."""
    async with realtime_upstream() as upstream, calling(upstream) as line:
        upstream.answers += [Answer("word " * 50 + "end", ms=20_000, hangs=True), Answer("Yes.", ms=300)]
        await line.ask("talk")
        await sounding(line, 1000)
        line.reporting = False
        await line.client.send({"type": "interrupt", "id": "x1"})
        cut_at = perf_counter()
        [ended] = (await line.until("turn.ended"))[-1:]
        await until(lambda: bool(upstream.of("conversation.item.truncate")), "the truncation")
        assert upstream.times("response.cancel")[0] - cut_at < 0.1
        [truncated] = upstream.of("conversation.item.truncate")
        assert truncated["item_id"].startswith("item_")
        assert truncated["audio_end_ms"] == ended["heard"]["audio_ms"]
        assert 900 <= truncated["audio_end_ms"] <= 1500
        await line.ask("again", "i2")
        line.reporting = True
        assert text_of(await line.until("turn.ended")) == "Yes."
        assert upstream.connections == 1
        assert upstream.items() == [("user", "talk"), ("user", "again")]


async def test_a_cut_after_the_model_has_finished() -> None:
    """Sound is made faster than it is played: there is nothing to cancel, and late errors harm nothing."""
    async with realtime_upstream() as upstream, calling(upstream) as line:
        upstream.answers += [Answer("word " * 9 + "end", ms=3000), Answer("Yes.", ms=300)]
        await line.ask("talk")
        await sounding(line, 500)
        await until(lambda: upstream.done == 1, "the model's end")
        await line.ask("again", "i2")
        error = {"code": "item_truncate_invalid", "event_id": "cut_1", "message": "text"}
        for socket in upstream.open:
            await socket.send(json.dumps({"type": "error", "error": error}))
        events = await line.until("turn.ended", status="completed")
        assert text_of(events).endswith("Yes.")
        assert upstream.of("response.cancel") == []
        assert len(upstream.of("conversation.item.truncate")) == 1


async def test_a_cut_before_the_first_sound() -> None:
    """There is nothing to truncate."""
    async with realtime_upstream() as upstream, calling(upstream) as line:
        upstream.answers += [Answer(hangs=True), Answer("Yes.", ms=300)]
        await line.ask("talk")
        await until(lambda: bool(upstream.of("response.create")), "the request")
        await line.client.send({"type": "interrupt", "id": "x1"})
        await line.until("turn.ended")
        await until(lambda: bool(upstream.of("response.cancel")), "the cancel")
        assert upstream.of("conversation.item.truncate") == []
        await line.ask("again", "i2")
        assert text_of(await line.until("turn.ended")) == "Yes."


@pytest.mark.parametrize("said", [COUGH, "okay"])
async def test_a_cough_loses_nothing(said: str) -> None:
    """Held and resumed; the model is not asked."""
    async with realtime_upstream() as upstream, calling(upstream) as line:
        upstream.answers.append(Answer("word " * 9 + "end", ms=3000))
        await line.ask("talk")
        await line.until("audio.delta")
        await line.say(silence(200), spoken(said, 200), silence(900))
        events = await line.until("turn.ended")
        kinds = [event["type"] for event in events]
        assert "turn.held" in kinds
        assert "turn.resumed" in kinds
        assert events[-1]["status"] == "completed"
        assert len(upstream.of("response.create")) == 1
        assert upstream.of("response.cancel") == []


async def test_tools_run_and_their_results_go_back() -> None:
    """The model's own ids; the answer follows the result."""

    async def weather(city: str) -> str:
        """Return the weather of a city."""
        return f"rain in {city}"

    async with realtime_upstream() as upstream, calling(upstream, tools=[weather]) as line:
        upstream.answers += [Answer(calls=(("weather", '{"city": "Bonn"}'),)), Answer("It rains.", ms=400)]
        await line.ask("weather?")
        events = await line.until("turn.ended")
        kinds = [event["type"] for event in events if event["type"].startswith("tool")]
        assert kinds == ["tool.call", "tool.running", "tool.result"]
        assert text_of(events) == "It rains."
        [result] = [
            event["item"] for event in upstream.of("conversation.item.create")
            if event["item"]["type"] == "function_call_output"
        ]  # fmt: skip
        assert result["output"] == "rain in Bonn"
        assert result["call_id"].startswith("call_")
        [session] = [event["session"] for event in upstream.of("session.update")]
        assert session["tools"][0]["name"] == "weather"


async def test_a_client_without_sound_gets_text() -> None:
    """The model is asked for text."""
    async with realtime_upstream() as upstream, calling(upstream, {}) as line:
        upstream.answers.append(Answer("Hello."))
        await line.ask("hi")
        events = await line.until("turn.ended")
        assert [event["text"] for event in events if event["type"] == "text.delta"] == ["Hello."]
        assert upstream.of("response.create")[0]["response"]["output_modalities"] == ["text"]


async def test_a_lost_conversation_is_made_anew_from_the_history() -> None:
    """With what was heard."""
    async with realtime_upstream() as upstream, calling(upstream, idle_s=0.2) as line:
        upstream.answers += [Answer("One.", ms=200), Answer("Two.", ms=200)]
        await line.ask("first")
        await line.until("turn.ended")
        await until(lambda: not upstream.open, "the idle end")
        await line.ask("second", "i2")
        assert text_of(await line.until("turn.ended")) == "Two."
        assert upstream.connections == 2
        assert upstream.items() == [
            ("user", "first"), ("user", "first"), ("assistant", "One."), ("user", "second"),
        ]  # fmt: skip


async def test_a_rewind_makes_the_conversation_anew() -> None:
    """The model forgets what the user took back."""
    async with realtime_upstream() as upstream, calling(upstream) as line:
        upstream.answers += [Answer("One.", ms=200), Answer("Two.", ms=200)]
        await line.ask("first")
        turn_id = (await line.until("turn.ended"))[-1]["turn_id"]
        await line.client.send({"type": "session.rewind", "id": "r1", "turn_id": turn_id})
        await line.until("session.rewound")
        await line.ask("second", "i2")
        await line.until("turn.ended")
        assert upstream.connections == 2
        assert upstream.items() == [("user", "first"), ("user", "second")]


@pytest.mark.parametrize("fault", ["failed", "closed", "refused", "unreachable"])
async def test_an_upstream_that_fails(fault: str) -> None:
    """The turn fails, retryable; the next one connects anew."""
    async with realtime_upstream() as upstream, calling(upstream) as line:
        url = upstream.url
        if fault == "failed":
            upstream.answers.append(Answer("Ab", ms=100, status="failed"))
        elif fault in ("closed", "refused"):
            upstream.answers.append(Answer("Ab", ms=100, hangs=True))
        await line.ask("first")
        if fault in ("closed", "unreachable"):
            await until(lambda: bool(upstream.of("response.create")), "the request")
            for socket in list(upstream.open):
                await socket.close(1011)
        elif fault == "refused":
            await until(lambda: bool(upstream.of("response.create")), "the request")
            for socket in list(upstream.open):
                await socket.send('{"type": "error", "error": {"type": "server_error", "message": "text"}}')
        ended = (await line.until("turn.ended"))[-1]
        assert (ended["status"], ended["reason"], ended["retryable"]) == ("failed", "upstream", True)
        upstream.answers[:] = [Answer("Well.", ms=200)]
        await line.ask("second", "i2")
        assert text_of(await line.until("turn.ended")) == "Well."
        assert upstream.url == url
        assert upstream.connections == 2


async def test_a_model_that_cannot_be_reached() -> None:
    """No trace of the key, and no hang."""
    upstream = RealtimeUpstream()
    upstream.url = "http://127.0.0.1:9/v1"
    async with calling(upstream) as line:
        await line.ask("hi")
        ended = (await line.until("turn.ended"))[-1]
        assert (ended["status"], ended["reason"], ended["retryable"]) == ("failed", "upstream", True)


async def test_against_bargein_s_own_realtime_door() -> None:
    """Two servers: the second hears, answers and is cut, as OpenAI's would."""
    async with serving(talker, doors=["realtime"], voice=listening("talk", "stop it")) as below:
        agent = RealtimeAgent(base_url=f"http://127.0.0.1:{below.port}/v1", api_key="")
        parts = fake_parts(recogniser=FakeRecogniser())
        async with serving(agent, voice=parts) as served, served.connect() as client:
            await client.send({"type": "session.open", "audio": AUDIO})
            await client.receive()
            line = Line(client)
            await line.say(silence(400), spoken("talk", 600), silence(700))
            await sounding(line, 500)
            await line.say(silence(100), spoken("stop that", 800), silence(700))
            ended = (await line.until("turn.ended"))[-1]
            assert ended["reason"] == "barge_in"
            assert 3 <= ended["heard"]["text"].count("word") <= 20
            assert text_of(await line.until("turn.ended")) == "You said stop it."


@pytest.mark.parametrize("url", ["", "ftp://x/v1", "localhost:8000", "http:///v1"])
def test_a_url_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named when the agent is made."""
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    if url:
        with pytest.raises(ValueError, match="expected a URL"):
            RealtimeAgent()
    else:
        RealtimeAgent()


def test_words_are_given_at_their_times() -> None:
    """Each once, none half, all in the end."""
    words = TimedWords(100.0)
    words.add("Hello the")
    assert words.until(0.0) == ""
    assert words.until(100.0) == "Hello"
    assert words.until(2000.0) == ""
    words.add("re. You")
    assert words.until(700.0) == " there."
    assert words.until(5000.0) == ""
    assert words.rest() == " You"
    assert words.rest() == ""


async def test_agents_that_do_not_hear_get_no_sound() -> None:
    """Nothing is kept for them."""
    heard: list[bytes | None] = []

    async def deaf(turn: Turn) -> AsyncIterator[str]:
        heard.append(turn.sound)
        yield "Yes."

    async with serving(deaf, voice=fake_parts(voice=FakeVoice())) as served, served.connect() as client:
        await client.send({"type": "session.open", "audio": AUDIO})
        await client.receive()
        line = Line(client)
        await line.say(silence(400), spoken("hi", 600), silence(700))
        await line.until("turn.ended")
    assert heard == [None]
