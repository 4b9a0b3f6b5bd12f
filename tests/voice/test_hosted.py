"""Recogniser and voice of a server with the audio API of OpenAI, on a loopback port."""

from __future__ import annotations

import asyncio
import io
import json
import wave
from collections.abc import AsyncIterator
from contextlib import aclosing

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bargein_server.voice.hosted import HostedRecogniser, HostedVoice
from bargein_server.voice.interfaces import Transcript, VoiceError
from plain_server import serving_app


class Server:
    """The fake server.

    Attributes:
        url: URL of its API.
        asked: What it was asked.
        closed: Set when a client closed a stream.
        status: Status of its answers.
        stream: Stream of events with which it transcribes; None for JSON.
        hangs: Whether that stream never ends.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, object]] = []
        self.closed = asyncio.Event()
        self.status = 200
        self.stream: bytes | None = None
        self.hangs = False
        self.answer: object = {"text": " Hello. ", "segments": [{"no_speech_prob": 0.2}]}

    def app(self) -> Starlette:
        """Return its application."""
        return Starlette(
            routes=[
                Route("/v1/audio/speech", self._speech, methods=["POST"]),
                Route("/v1/audio/transcriptions", self._transcriptions, methods=["POST"]),
            ]
        )

    async def _speech(self, request: Request) -> Response:
        self.asked.append(await request.json() | {"authorization": request.headers.get("authorization")})
        if self.status != 200:
            return Response("the user's text", self.status)
        return StreamingResponse(self._sound())

    async def _sound(self) -> AsyncIterator[bytes]:
        try:
            yield b"abc"
            yield b"d"
            if self.asked[-1]["input"] == "endless":
                await asyncio.sleep(60)
        finally:
            self.closed.set()

    async def _transcriptions(self, request: Request) -> Response:
        body = await request.body()
        self.asked.append({"body": body, "authorization": request.headers.get("authorization")})
        if self.stream is not None:
            return StreamingResponse(self._words(self.stream), media_type="text/event-stream")
        return JSONResponse(self.answer, self.status)

    async def _words(self, stream: bytes) -> AsyncIterator[bytes]:
        try:
            yield stream
            if self.hangs:
                await asyncio.sleep(60)
        finally:
            self.closed.set()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Run the server."""
    fake = Server()
    async with serving_app(fake.app(), "uvicorn's") as served:
        fake.url = f"http://127.0.0.1:{served.port}/v1"
        yield fake


SOUND = np.zeros(1600, dtype=np.float32)


async def test_a_voice_streams_whole_samples(server: Server) -> None:
    """A sample that comes in two pieces stays whole; the credential goes to this server."""
    voice = HostedVoice("tts", "alloy", base_url=server.url, api_key="secret", instructions="slowly")
    assert b"".join([piece.pcm async for piece in voice.say("Hello.")]) == b"abcd"
    assert server.asked == [
        {"model": "tts", "voice": "alloy", "response_format": "pcm", "instructions": "slowly",
         "input": "Hello.", "authorization": "Bearer secret"}
    ]  # fmt: skip
    await voice.shutdown()


async def test_closing_a_voice_closes_the_response(server: Server) -> None:
    """An interrupt ends the synthesis on the other side too."""
    voice = HostedVoice("tts", "alloy", base_url=server.url, api_key="")
    async with aclosing(voice.say("endless")) as pieces:
        assert len((await anext(pieces)).pcm) % 2 == 0
    await asyncio.wait_for(server.closed.wait(), 5)
    assert server.asked[0]["authorization"] is None
    await voice.shutdown()


async def test_an_utterance_goes_up_as_a_wave_file(server: Server) -> None:
    """With the name of the model and the language."""
    recogniser = HostedRecogniser(
        "whisper-1", base_url=server.url, api_key="k", response_format="verbose_json"
    )
    assert await recogniser.transcribe(SOUND) == Transcript("Hello.", 0.2)
    body = server.asked[0]["body"]
    assert isinstance(body, bytes)
    assert all(part in body for part in (b"whisper-1", b"verbose_json", b'name="language"\r\n\r\nen'))
    with wave.open(io.BytesIO(body[body.index(b"RIFF") :])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16_000, 1, 1600)
    await recogniser.shutdown()


@pytest.mark.parametrize("answer", [{"segments": []}, [], "text", {"text": "a", "segments": [3]}])
async def test_an_answer_without_a_transcript_is_an_error(server: Server, answer: object) -> None:
    """Not a crash."""
    server.answer = answer
    recogniser = HostedRecogniser("m", base_url=server.url, api_key="k")
    with pytest.raises(VoiceError, match="no transcript"):
        await recogniser.transcribe(SOUND)
    await recogniser.shutdown()


async def test_errors_have_the_status_and_nothing_else(server: Server) -> None:
    """The server's text may quote the user's."""
    server.status = 503
    voice = HostedVoice("tts", "alloy", base_url=server.url, api_key="k")
    recogniser = HostedRecogniser("m", base_url=server.url, api_key="k")
    with pytest.raises(VoiceError, match=r"^the server answered with status 503$"):
        await anext(voice.say("Hello."))
    with pytest.raises(VoiceError, match=r"^the server answered with status 503$"):
        await recogniser.transcribe(SOUND)
    await voice.shutdown()
    await recogniser.shutdown()
    voice = HostedVoice("tts", "alloy", base_url="http://127.0.0.1:9/v1", api_key="k")
    with pytest.raises(VoiceError, match="ConnectError"):
        await anext(voice.say("Hello."))
    await voice.shutdown()


def events(*sent: dict[str, object]) -> bytes:
    """Return a stream of events."""
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in sent)


async def test_a_streaming_recogniser_reports_words(server: Server) -> None:
    """As they come; a quick answer does not stream."""
    deltas: list[dict[str, object]] = [
        {"type": "transcript.text.delta", "delta": word} for word in ("Why", " are", " you")
    ]
    server.stream = events(*deltas, {"type": "transcript.text.done", "text": "Why are you? "})
    recogniser = HostedRecogniser("gpt-4o-transcribe", base_url=server.url, api_key="k", stream=True)
    reported: list[str] = []
    dictation = recogniser.open()
    assert await dictation.partial(SOUND) == ""
    assert await dictation.transcribe(SOUND, reported.append) == Transcript("Why are you?")
    assert reported == ["Why", "Why are", "Why are you"]
    body = server.asked[0]["body"]
    assert isinstance(body, bytes)
    assert b'name="stream"\r\n\r\ntrue' in body
    server.stream = None
    assert (await dictation.transcribe(SOUND, reported.append)).text == "Hello."
    assert (await recogniser.transcribe(SOUND)).text == "Hello."
    assert b'name="stream"' not in server.asked[-1]["body"]  # type: ignore[operator]
    dictation.close()
    await recogniser.shutdown()
    with pytest.raises(ValueError, match="json"):
        HostedRecogniser("m", response_format="verbose_json", stream=True)


@pytest.mark.parametrize(
    "stream",
    [
        b"", b"data: {\n\n", b"data: [1]\n\n", events({"type": "transcript.text.delta"}),
        events({"type": "error", "error": {"message": "the user's text"}}),
        events({"type": "transcript.text.delta", "delta": "x" * 70_000}),
    ],
)  # fmt: skip
async def test_a_stream_without_an_end_is_an_error(server: Server, stream: bytes) -> None:
    """It may break, fail, or never stop."""
    server.stream = stream
    recogniser = HostedRecogniser("m", base_url=server.url, api_key="k", stream=True)
    with pytest.raises(VoiceError) as raised:
        await recogniser.open().transcribe(SOUND, lambda text: None)
    assert "user" not in str(raised.value)
    await recogniser.shutdown()


async def test_a_cancelled_transcription_closes_its_request(server: Server) -> None:
    """The words are not wanted any more."""
    server.stream = events({"type": "transcript.text.delta", "delta": "Why"})
    server.hangs = True
    recogniser = HostedRecogniser("m", base_url=server.url, api_key="k", stream=True)
    heard = asyncio.Event()
    task = asyncio.create_task(recogniser.open().transcribe(SOUND, lambda text: heard.set()))
    await asyncio.wait_for(heard.wait(), 5)
    task.cancel()
    await asyncio.wait_for(server.closed.wait(), 5)
    await recogniser.shutdown()


async def test_the_recognised_language(server: Server) -> None:
    """`verbose_json` names it in English."""
    server.answer = {"text": "Ja.", "language": "german", "segments": []}
    recogniser = HostedRecogniser("m", base_url=server.url, api_key="k", response_format="verbose_json")
    assert await recogniser.transcribe(SOUND) == Transcript("Ja.", 0.0, "de")
    await recogniser.shutdown()
