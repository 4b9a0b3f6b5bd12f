"""Recogniser and voice of any server with the audio API of OpenAI.

    run(agent, voice=LocalVoice(HostedVoice("gpt-4o-mini-tts", "alloy"), …))

Requests carry the credential to the server that `base_url` names, and to no other.
"""

from __future__ import annotations

import io
import os
import wave
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Literal

from .interfaces import RATE, Spoken, Transcript, VoiceError
from .sound import encoded
from .weights import require

if TYPE_CHECKING:
    import httpx2

    from .interfaces import Samples

OPENAI_URL = "https://api.openai.com/v1"
HTTP_REMEDY = 'pip install "bargein[http]"'

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

    Raises:
        NotInstalled: `httpx2` is missing.
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
    ) -> None:
        self._fields = {"model": model, "response_format": response_format}
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
        import httpx2

        file = ("speech.wav", wav(sound), "audio/wav")
        request = self._server.request("/audio/transcriptions", data=self._fields, files={"file": file})
        try:
            response = await self._server.client().send(request)
            await _check(response)
            answer = response.json()
            text, segments = answer["text"], answer.get("segments") or ()
            no_speech = min((float(segment.get("no_speech_prob", 0)) for segment in segments), default=0.0)
        except httpx2.HTTPError as error:
            raise VoiceError(f"the recogniser's server failed: {type(error).__name__}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise VoiceError("the recogniser's server sent no transcript") from error
        return Transcript(str(text).strip(), no_speech)


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
