"""Realtime sessions with sound: the server detects speech, or the client commits it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from bargein_server.voice.sound import Encoding, decoded, encoded
from realtime_client import Talk, realtime, text_of
from realtime_sound import RATE, in_pieces, listening, sound, talker


@asynccontextmanager
async def hearing(*texts: str, **session: Any) -> AsyncIterator[Talk]:
    """Serve an agent that hears and speaks."""
    async with realtime(talker, voice=listening(*texts)) as talk:
        created = talk.events[0]["session"]
        assert created["output_modalities"] == ["audio"]
        assert created["audio"]["input"]["turn_detection"]["type"] == "server_vad"
        if session:
            update: Any = {"type": "realtime", **session}
            await talk.connection.session.update(session=update)
            await talk.until("session.updated")
        yield talk


async def say(talk: Talk, *pieces: np.ndarray[Any, Any]) -> None:
    """Send sound in pieces of 40 ms."""
    for audio in in_pieces(*pieces):
        await talk.connection.input_audio_buffer.append(audio=audio)


def kinds(talk: Talk, start: int) -> list[str]:
    """Return the types of events, runs of the same type as one."""
    names = [event["type"] for event in talk.events[start:]]
    return [name for n, name in enumerate(names) if n == 0 or names[n - 1] != name]


async def test_speech_becomes_a_response_with_sound() -> None:
    """In the order of the protocol; the item that was said is the one that speech_started named."""
    async with hearing("hello", audio={"input": {"transcription": {"model": "any"}}}) as talk:
        start = len(talk.events)
        await say(talk, sound(500, False), sound(700, True), sound(900, False))
        done = (await talk.until("response.done"))["response"]
        assert kinds(talk, start)[:9] == [
            "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed", "conversation.item.added", "conversation.item.done",
            "conversation.item.input_audio_transcription.completed", "response.created",
            "response.output_item.added", "conversation.item.added",
        ]  # fmt: skip
        named = {event["item_id"] for event in talk.events[start:] if "audio_buffer" in event["type"]}
        item = next(
            event["item"] for event in talk.events[start:] if event["type"] == "conversation.item.added"
        )
        assert named == {item["id"]}
        assert item["content"] == [{"type": "input_audio", "transcript": "hello"}]
        assert text_of(done) == "You said hello."
        deltas = [event["delta"] for event in talk.events if event["type"] == "response.output_audio.delta"]
        samples = np.frombuffer(b"".join(map(base64.b64decode, deltas)), dtype="<i2")
        assert len(samples) / RATE == pytest.approx(0.3, abs=0.02)


async def test_a_barge_in() -> None:
    """The response is cancelled by the turn that was detected, and the next one answers what was said."""
    async with hearing("stop it") as talk:
        await talk.say("talk")
        await talk.connection.response.create()
        await talk.until("response.output_audio.delta")
        await say(talk, sound(100, False), sound(1200, True), sound(900, False))
        done = (await talk.until("response.done"))["response"]
        assert done["status"] == "cancelled"
        assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        item = done["output"][0]
        await talk.connection.conversation.item.truncate(
            item_id=item["id"], content_index=0, audio_end_ms=200
        )
        await talk.until("conversation.item.truncated")
        assert text_of((await talk.until("response.done"))["response"]) == "You said stop it."


async def test_push_to_talk() -> None:
    """Without turn detection the client commits, and asks for the response itself."""
    async with hearing("hello", audio={"input": {"turn_detection": None}}) as talk:
        await talk.connection.input_audio_buffer.commit()
        assert (await talk.error())["code"] == "input_audio_buffer_commit_empty"
        await say(talk, sound(800, True))
        await talk.connection.input_audio_buffer.commit()
        committed = await talk.until("input_audio_buffer.committed")
        done = await talk.respond()
        assert text_of(done) == "You said hello."
        await talk.connection.conversation.item.retrieve(item_id=committed["item_id"])
        item = (await talk.until("conversation.item.retrieved"))["item"]
        assert item["content"] == [{"type": "input_audio", "transcript": "hello"}]


async def test_nothing_was_said() -> None:
    """The response fails with the reason."""
    async with hearing("", audio={"input": {"turn_detection": None}}) as talk:
        await say(talk, sound(800, True))
        await talk.connection.input_audio_buffer.commit()
        done = await talk.respond()
        assert done["status_details"]["error"]["code"] == "no_speech"


async def test_responses_that_the_client_asks_for() -> None:
    """With detection, but without create_response, what was said waits for response.create."""
    detection = {"type": "server_vad", "create_response": False}
    async with hearing("hello", audio={"input": {"turn_detection": detection}}) as talk:
        await say(talk, sound(500, False), sound(700, True), sound(900, False))
        await talk.until("input_audio_buffer.committed")
        assert text_of(await talk.respond()) == "You said hello."


async def test_text_for_one_who_speaks() -> None:
    """A client that wants no sound gets none."""
    async with hearing("hello", output_modalities=["text"]) as talk:
        await say(talk, sound(500, False), sound(700, True), sound(900, False))
        done = (await talk.until("response.done"))["response"]
        assert done["output"][0]["content"] == [{"type": "output_text", "text": "You said hello."}]


async def test_sound_that_is_none() -> None:
    """Text that is no base64 is refused, and the session lives on."""
    async with hearing("hello") as talk:
        await talk.connection.input_audio_buffer.append(audio="?")
        assert (await talk.error())["param"] == "audio"
        await talk.connection.input_audio_buffer.clear()
        await talk.until("input_audio_buffer.cleared")


@pytest.mark.parametrize(("kind", "encoding"), [("audio/pcmu", "mulaw"), ("audio/pcma", "alaw")])
async def test_the_encodings_of_telephones(kind: str, encoding: Encoding) -> None:
    """Heard and spoken at 8 kHz, a byte a sample."""
    audio = {"input": {"format": {"type": kind}}, "output": {"format": {"type": kind}}}
    async with hearing("hello", audio=audio) as talk:
        told = np.concatenate([sound(500, False, 8000), sound(700, True, 8000), sound(900, False, 8000)])
        data = encoded(told, encoding)
        for start in range(0, len(data), 320):
            piece = base64.b64encode(data[start : start + 320]).decode()
            await talk.connection.input_audio_buffer.append(audio=piece)
        done = (await talk.until("response.done"))["response"]
        assert text_of(done) == "You said hello."
        deltas = [event["delta"] for event in talk.events if event["type"] == "response.output_audio.delta"]
        heard = decoded(b"".join(map(base64.b64decode, deltas)), encoding)
        assert len(heard) / 8000 == pytest.approx(0.3, abs=0.02)
        assert 0.02 <= float(np.abs(heard).max()) <= 0.05  # the level of the voice
