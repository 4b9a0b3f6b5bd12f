"""Recogniser and voice of any server with the audio API of OpenAI.

    run(agent, voice=LocalVoice(HostedVoice("gpt-4o-mini-tts", "alloy"), …))

Requests carry the credential to the server that `base_url` names, and to no other.
"""

from __future__ import annotations

import io
import os
import wave
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, Literal

from msgspec import json

from .interfaces import RATE, Spoken, Transcript, VoiceError
from .sound import encoded
from .weights import require

if TYPE_CHECKING:
    import httpx2

    from .interfaces import Samples

OPENAI_URL = "https://api.openai.com/v1"
HTTP_REMEDY = 'pip install "bargein[http]"'

MAX_TEXT_CHARS = 64 * 1024
"""Longest transcript."""

_LANGUAGES = {
    "arabic": "ar", "chinese": "zh", "dutch": "nl", "english": "en", "french": "fr", "german": "de",
    "hindi": "hi", "italian": "it", "japanese": "ja", "korean": "ko", "polish": "pl", "portuguese": "pt",
    "russian": "ru", "spanish": "es", "swedish": "sv", "turkish": "tr", "ukrainian": "uk",
}  # fmt: skip
"""Tags of the languages that `verbose_json` names in English."""

_CONNECT_S = 5.0
_SILENCE_S = 10.0


class _Server:
    """The HTTP client of one server.

    Args:
        base_url: URL of its API with the version; None for `OPENAI_BASE_URL`, else OpenAI's.
        api_key: The credential; None for `OPENAI_API_KEY`; empty for none.
        client: An HTTP client of the caller, who closes it; None for one of its own.
    """

    def __init__(self, base_url: str | None, api_key: str | None, client: httpx2.AsyncClient | None) -> None:
        require("httpx2", remedy=HTTP_REMEDY)
        self._base_url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL).rstrip("/")
        key = os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = client
        self._owned = client is None

    def client(self) -> httpx2.AsyncClient:
        """Return the client, made on first use in the event loop."""
        import httpx2

        if self._client is None:
            self._client = httpx2.AsyncClient(timeout=httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S))
        return self._client

    def request(self, path: str, **content: Any) -> httpx2.Request:
        """Return a POST request."""
        return self.client().build_request(
            "POST", f"{self._base_url}{path}", headers=self._headers, **content
        )

    async def close(self) -> None:
        """Close the client, unless it is the caller's."""
        if self._owned and self._client is not None:
            client, self._client = self._client, None
            await client.aclose()


class HostedVoice:
    """Voice of a server with `/v1/audio/speech`, whose PCM is streamed.

    It has no word times: positions within a sentence are estimated by letters, so the heard text may be
    wrong by one word.

    Args:
        model: Name of the model.
        voice: Name of the voice.
        base_url: URL of the API with the version; None for `OPENAI_BASE_URL`, else OpenAI's.
        api_key: The credential; None for `OPENAI_API_KEY`; empty for none.
        rate: Samples per second of the server's PCM16.
        instructions: Instructions for the voice, for models that take them.
        client: An HTTP client of the caller, who closes it; None for one of its own.

    Attributes:
        rate: Samples per second.
        word_times: False.

    Raises:
        NotInstalled: `httpx2` is missing.
    """

    def __init__(
        self,
        model: str,
        voice: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        rate: int = 24_000,
        instructions: str | None = None,
        client: httpx2.AsyncClient | None = None,
    ) -> None:
        self.rate: int = rate
        self.word_times: bool = False
        self._fields = {"model": model, "voice": voice, "response_format": "pcm"}
        if instructions is not None:
            self._fields["instructions"] = instructions
        self._server = _Server(base_url, api_key, client)

    async def shutdown(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def say(self, text: str) -> AsyncGenerator[Spoken, None]:
        """Yield the sound of a text as it arrives; closing it closes the response.

        Raises:
            VoiceError: The server cannot be reached, answers with an error, or falls silent for 10 s.
        """
        import httpx2

        request = self._server.request("/audio/speech", json={**self._fields, "input": text})
        try:
            response = await self._server.client().send(request, stream=True)
            try:
                await _check(response)
                odd = b""
                async for received in response.aiter_bytes():
                    pcm = odd + received
                    whole = len(pcm) // 2 * 2
                    pcm, odd = pcm[:whole], pcm[whole:]
                    if pcm:
                        yield Spoken(pcm)
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            raise VoiceError(f"the voice's server failed: {type(error).__name__}") from error


class HostedRecogniser:
    """Recogniser of a server with `/v1/audio/transcriptions`.

    Args:
        model: Name of the model.
        language: Code of the language; None to detect it.
        base_url: URL of the API with the version; None for `OPENAI_BASE_URL`, else OpenAI's.
        api_key: The credential; None for `OPENAI_API_KEY`; empty for none.
        response_format: `verbose_json`, for Whisper's models, also has the probability that the sound was
            no speech.
        client: An HTTP client of the caller, who closes it; None for one of its own.
        stream: Whether the words come one after the other as they are recognised, as `gpt-4o-transcribe`
            can. `transcript.delta` then precedes the transcript.

    Attributes:
        partials: False: the words come when the user pauses.

    Raises:
        NotInstalled: `httpx2` is missing.
        ValueError: `stream` is asked for with `verbose_json`, which has no streams.
    """

    def __init__(
        self,
        model: str,
        *,
        language: str | None = "en",
        base_url: str | None = None,
        api_key: str | None = None,
        response_format: Literal["json", "verbose_json"] = "json",
        client: httpx2.AsyncClient | None = None,
        stream: bool = False,
    ) -> None:
        if stream and response_format != "json":
            raise ValueError("expected response_format to be json for stream=True")
        self.partials: bool = False
        self._fields = {"model": model, "response_format": response_format}
        self._stream = stream
        if language is not None:
            self._fields["language"] = language
        self._server = _Server(base_url, api_key, client)

    async def shutdown(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def transcribe(self, sound: Samples, *, quick: bool = False) -> Transcript:
        """Return the text of an utterance; cancelling it closes the request.

        Args:
            sound: The utterance.
            quick: Has no effect.

        Raises:
            VoiceError: The server cannot be reached, answers with an error, or does not answer in 10 s.
        """
        return await self.transcribed(sound, None)

    def open(self) -> HostedDictation:
        """Return the dictation of a new utterance."""
        return HostedDictation(self)

    async def transcribed(self, sound: Samples, report: Callable[[str], None] | None) -> Transcript:
        """Return the text of an utterance, and report it while it comes.

        Args:
            sound: The utterance.
            report: Called with the words so far; None to wait for the whole.

        Raises:
            VoiceError: As for `transcribe`.
        """
        import httpx2

        streams = self._stream and report is not None
        fields = {**self._fields, "stream": "true"} if streams else self._fields
        file = ("speech.wav", wav(sound), "audio/wav")
        request = self._server.request("/audio/transcriptions", data=fields, files={"file": file})
        try:
            response = await self._server.client().send(request, stream=True)
            try:
                await _check(response)
                if report is not None and "text/event-stream" in response.headers.get("content-type", ""):
                    return await _streamed(response, report)
                await response.aread()
                return _whole(response.json())
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            raise VoiceError(f"the recogniser's server failed: {type(error).__name__}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise VoiceError("the recogniser's server sent no transcript") from error


class HostedDictation:
    """Transcription of one utterance by a `HostedRecogniser`.

    Args:
        recogniser: The recogniser.
    """

    def __init__(self, recogniser: HostedRecogniser) -> None:
        self._recogniser = recogniser

    async def partial(self, sound: Samples) -> str:
        """Return nothing: the words come when the user pauses."""
        return ""

    async def transcribe(self, sound: Samples, report: Callable[[str], None]) -> Transcript:
        """Return the text of the utterance; cancelling it closes the request.

        Args:
            sound: The utterance.
            report: Called with the words so far, if the recogniser streams.

        Raises:
            VoiceError: As for `HostedRecogniser.transcribe`.
        """
        return await self._recogniser.transcribed(sound, report)

    def close(self) -> None:
        """Do nothing: a request ends with its call."""


def _whole(answer: Any) -> Transcript:
    """Return the transcript of a JSON answer."""
    text, segments = answer["text"], answer.get("segments") or ()
    no_speech = min((float(segment.get("no_speech_prob", 0)) for segment in segments), default=0.0)
    return Transcript(str(text).strip(), no_speech, _LANGUAGES.get(str(answer.get("language")).lower(), ""))


async def _streamed(response: httpx2.Response, report: Callable[[str], None]) -> Transcript:
    """Return the transcript of a stream of events, and report its words."""
    text = ""
    async for line in response.aiter_lines():
        if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
            continue
        event = json.decode(data.encode())
        if event.get("type") == "transcript.text.delta":
            text += str(event["delta"])
            if len(text) > MAX_TEXT_CHARS:
                raise VoiceError("the recogniser's server sends no end of the transcript")
            report(text.lstrip())
        elif event.get("type") == "transcript.text.done":
            return Transcript(str(event["text"]).strip())
        elif event.get("type") == "error":
            raise VoiceError("the recogniser's server reported an error")
    raise VoiceError("the recogniser's server ended the transcript early")


async def _check(response: httpx2.Response) -> None:
    """Raise `VoiceError` for a failed status, without the server's text."""
    if not response.is_success:
        await response.aread()
        raise VoiceError(f"the server answered with status {response.status_code}")


def wav(sound: Samples) -> bytes:
    """Return sound as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE)
        writer.writeframes(encoded(sound))
    return file.getvalue()
