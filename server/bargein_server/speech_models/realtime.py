"""Agent of a speech-to-speech model behind OpenAI's Realtime protocol.

    run(RealtimeAgent("gpt-realtime"), voice=local_parts("none"))

The server detects speech, holds and ends turns, and transcribes for the user's eyes and for "okay". The model
gets the sound of the user's words, and its sound goes out as it is played. An interrupt cancels the response,
and truncates it in the model's conversation to what was heard.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, cast
from urllib.parse import quote, urlsplit

from bargein_protocol import AudioDelta, AudioFormat, CallId, SessionId, TextDelta, ToolCall, ToolResult
from bargein_server.agent import NamedCall, Output, Turn, TurnFailed, plain_text, result_message

from ..agents.tool_loop import ToolRunner
from ..agents.tool_sources import Toolset, ToolSource
from ..agents.tools import Tool
from ..voice.playout import Playout
from ..voice.sound import Encoding, Resampler, decoded, encoded
from .speech_text import MS_PER_CHAR, TimedWords
from .upstream import APPEND_BYTES, RATE, JsonMap, Upstream, UpstreamFailed

OPENAI_URL = "wss://api.openai.com/v1"
HEARD_RATE = 16_000
MAX_STEPS = 12
"""Responses of a turn; the last one is without tools."""
MAX_CONVERSATIONS = 1000
PIECE_BYTES = 2 * RATE // 10
"""Sound of one `audio.delta`: 100 ms."""


class _Spoken:
    """Sound of one turn.

    Attributes:
        item_id: The message that sounds; None before the first.
        item_start_ms: Position of its sound in the turn's.
        sent_ms: Sound that was sent.
    """

    def __init__(self, wanted: AudioFormat, playout: Playout) -> None:
        self.wanted = wanted
        self.playout = playout
        self.item_id: str | None = None
        self.item_start_ms = 0
        self.samples = 0
        self.resampler = Resampler(RATE, wanted.rate)

    @property
    def sent_ms(self) -> int:
        return self.samples * 1000 // self.wanted.rate


class RealtimeAgent:
    """Agent that passes speech to a model and its speech back.

    Each session has a conversation at the model, which is kept between turns for `idle_s`, and made anew from
    the history when it is gone. Clients that take no audio get text; what they type is asked as text.

    Args:
        model: Name of the model.
        base_url: URL of the API with the version, with the scheme `ws`, `wss`, `http` or `https`; None for
            `OPENAI_BASE_URL`, else OpenAI's.
        api_key: The credential; None for `OPENAI_API_KEY`; empty for none.
        voice: Name of the voice; None for the model's own.
        instructions: The system prompt.
        tools: Tools for the model: functions, results of `tool()`, or MCP servers.
        ahead_s: Sound that is sent before it is played, in seconds. An interrupt discards it.
        idle_s: Time after which a conversation without turns is closed, in seconds.

    Attributes:
        hears: True: it gets `turn.sound`.

    Raises:
        ValueError: The URL is none.
        NotATool: A tool cannot be described to a model.
    """

    hears: bool = True

    def __init__(
        self,
        model: str = "gpt-realtime",
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        voice: str | None = None,
        instructions: str = "",
        tools: Iterable[Tool | Callable[..., Any] | ToolSource] = (),
        ahead_s: float = 0.4,
        idle_s: float = 60.0,
    ) -> None:
        self.model: str = model
        self._url = _socket_url(base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL, model)
        self._api_key = (os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key).strip()
        self._voice = voice
        self._instructions = instructions
        self._tools = Toolset(tools)
        self._ahead_s = ahead_s
        self._idle_s = idle_s
        self._ms_per_char = MS_PER_CHAR
        self._upstreams: dict[SessionId, Upstream] = {}
        self._timers: dict[SessionId, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def startup(self) -> None:
        """Connect the sources of tools, such as MCP servers."""
        await self._tools.startup()

    async def shutdown(self) -> None:
        """Close all conversations."""
        for session_id in list(self._upstreams):
            self._drop(session_id)
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._tools.shutdown()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Answer the turn, aloud if its client takes audio.

        Raises:
            TurnFailed: The model cannot be reached, refused, or fell silent: `upstream`.
        """
        session_id = turn.session.id
        self._stop_timer(session_id)
        spoken = _spoken_by(turn)
        try:
            await self._tools.refresh()
            upstream = await self._ask(turn)
            over = False
            try:
                async with aclosing(self._answer(turn, upstream, spoken)) as outputs:
                    async for output in outputs:
                        yield output
                if spoken is not None:
                    await spoken.playout.played()
                over = True
            finally:
                if not over and not upstream.lost:
                    await upstream.cut(*_heard(turn, spoken))
        except UpstreamFailed as error:
            self._drop(session_id)
            raise TurnFailed("upstream", retryable=True, detail=str(error)) from error
        finally:
            self._start_timer(session_id)

    # --- conversations ---------------------------------------------------------------------------

    async def _ask(self, turn: Turn) -> Upstream:
        """Return the conversation with the turn's input as its last message."""
        session_id, messages = turn.session.id, turn.history.messages()[:-1]
        asked = [plain_text(message["content"]) for message in messages if message["role"] == "user"]
        upstream = self._upstreams.get(session_id)
        if upstream is None or upstream.lost or not _continues(asked, upstream.asked):
            self._drop(session_id)
            upstream = await Upstream.open(self._url, self._api_key, self._session())
            self._upstreams[session_id] = upstream
            while len(self._upstreams) > MAX_CONVERSATIONS:
                self._drop(next(iter(self._upstreams)))
            for message in messages:
                text = plain_text(message.get("content") or "")
                if message["role"] in ("user", "assistant") and text:
                    await upstream.add_text(message["role"], text)
        upstream.forget()
        sound = turn.sound
        if sound:
            await upstream.add_sound([piece async for piece in _in_pieces(sound)], turn.text)
        else:
            await upstream.add_text("user", turn.text)
        return upstream

    def _session(self) -> JsonMap:
        form = {"type": "audio/pcm", "rate": RATE}
        output: JsonMap = {"format": form}
        if self._voice is not None:
            output["voice"] = self._voice
        tools = [{"type": "function", **tool.specification()["function"]} for tool in self._tools.values()]
        return {
            "type": "realtime",
            "model": self.model,
            "output_modalities": ["audio"],
            "instructions": self._instructions,
            "audio": {"input": {"format": form, "turn_detection": None}, "output": output},
            "tools": tools,
        }

    def _drop(self, session_id: SessionId) -> None:
        self._stop_timer(session_id)
        upstream = self._upstreams.pop(session_id, None)
        if upstream is not None:
            task = asyncio.get_running_loop().create_task(upstream.close(), name="close realtime upstream")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _start_timer(self, session_id: SessionId) -> None:
        if session_id in self._upstreams:
            loop = asyncio.get_running_loop()
            self._stop_timer(session_id)
            self._timers[session_id] = loop.call_later(self._idle_s, self._drop, session_id)

    def _stop_timer(self, session_id: SessionId) -> None:
        timer = self._timers.pop(session_id, None)
        if timer is not None:
            timer.cancel()

    # --- answers ---------------------------------------------------------------------------------

    async def _answer(
        self, turn: Turn, upstream: Upstream, spoken: _Spoken | None
    ) -> AsyncGenerator[Output, None]:
        """Yield the model's answer, with the tools that it calls in between."""
        for step in range(MAX_STEPS):
            calls: list[NamedCall] = []
            given: dict[str, str] = {}
            options: JsonMap = {"output_modalities": ["text"]} if spoken is None else {}
            if step == MAX_STEPS - 1:
                options["tool_choice"] = "none"
            async with aclosing(self._respond(turn, upstream, spoken, calls, given, options)) as outputs:
                async for output in outputs:
                    yield output
            if not calls:
                return
            running = ToolRunner(turn, self._tools, calls)
            async with aclosing(running.outputs()) as outputs:
                async for output in outputs:
                    yield output
            for result in running.results:
                item = {
                    "type": "function_call_output",
                    "call_id": given[result.call_id],
                    "output": _result_text(result),
                }
                await upstream.send({"type": "conversation.item.create", "item": item})

    async def _respond(
        self,
        turn: Turn,
        upstream: Upstream,
        spoken: _Spoken | None,
        calls: list[NamedCall],
        given: dict[str, str],
        options: JsonMap,
    ) -> AsyncGenerator[Output, None]:
        """Yield the output of a response; add its calls and their ids to `given`."""
        words, waiting = TimedWords(self._ms_per_char), b""
        start_ms = 0 if spoken is None else spoken.sent_ms
        async with aclosing(cast("AsyncGenerator[JsonMap, None]", upstream.respond(**options))) as events:
            async for event in events:
                kind, delta = event.get("type"), event.get("delta")
                if kind == "response.output_text.delta":
                    yield TextDelta(text=str(delta))
                elif kind == "response.output_audio_transcript.delta":
                    words.add(str(delta))
                elif kind == "response.output_audio.delta" and spoken is not None:
                    if spoken.item_id != event.get("item_id"):
                        spoken.item_id, spoken.item_start_ms = str(event.get("item_id")), spoken.sent_ms
                    waiting += _pcm(delta)
                    # The last piece waits for the end, because the last words belong to it.
                    while len(waiting) > PIECE_BYTES:
                        piece, waiting = waiting[:PIECE_BYTES], waiting[PIECE_BYTES:]
                        yield await self._piece(piece, spoken, words, start_ms)
                elif kind == "response.done":
                    self._end(turn, event["response"], calls, given)
        if spoken is not None and waiting:
            yield await self._piece(waiting, spoken, words, start_ms, last=True)
        elif rest := words.rest():
            yield TextDelta(text=rest)
        if spoken is not None and words.chars > 20:
            self._ms_per_char = (spoken.sent_ms - start_ms) / words.chars or MS_PER_CHAR
        for call in calls:
            yield ToolCall(call_id=CallId(call.call_id), name=call.name)

    async def _piece(
        self, pcm: bytes, spoken: _Spoken, words: TimedWords, start_ms: int, *, last: bool = False
    ) -> AudioDelta:
        """Return a piece of sound with the words that begin in it, when due."""
        sound = spoken.resampler.resampled(decoded(pcm, "pcm16"))
        await spoken.playout.room(self._ahead_s)
        before = spoken.sent_ms
        spoken.samples += len(sound)
        duration_ms = spoken.sent_ms - before
        spoken.playout.gave(duration_ms)
        text = words.rest() if last else words.until(spoken.sent_ms - start_ms)
        audio = encoded(sound, cast(Encoding, spoken.wanted.encoding))
        return AudioDelta(audio=audio, start_ms=before, duration_ms=duration_ms, text=text or None)

    def _end(self, turn: Turn, response: JsonMap, calls: list[NamedCall], given: dict[str, str]) -> None:
        """Take the end of a response: usage, failure, calls.

        Raises:
            UpstreamFailed: The response failed.
        """
        usage = response.get("usage") or {}
        turn.add_usage(int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0))
        status, details = response.get("status"), response.get("status_details") or {}
        if status == "failed":
            error = details.get("error") or {}
            raise UpstreamFailed(f"the model failed: {str(error.get('code') or error.get('type'))[:80]}")
        if status == "incomplete":
            turn.cut_short("content_filter" if details.get("reason") == "content_filter" else "length")
        for item in response.get("output") or ():
            if item.get("type") == "function_call" and status == "completed":
                call_id = turn.tools.claim(str(item.get("call_id")))
                given[call_id] = str(item.get("call_id"))
                calls.append(NamedCall(call_id, str(item.get("name")), str(item.get("arguments") or "{}")))


def _continues(asked: list[str], before: list[str]) -> bool:
    """Return whether a history is that of a conversation, or its end."""
    return asked == before[len(before) - len(asked) :] if asked else not before


def _spoken_by(turn: Turn) -> _Spoken | None:
    """Return the account of a turn's sound; None for a client that takes none."""
    wanted = turn.audio
    if wanted is None or not wanted.sample_bytes:
        return None
    return _Spoken(wanted, Playout(lambda: turn.played_ms))


def _heard(turn: Turn, spoken: _Spoken | None) -> tuple[str | None, int]:
    """Return the message that was cut, and its heard length in milliseconds."""
    if spoken is None or spoken.item_id is None:
        return None, 0
    reported = turn.played_ms
    played = spoken.sent_ms - int(1000 * spoken.playout.ahead_s()) if reported is None else reported
    return spoken.item_id, max(0, min(played, spoken.sent_ms) - spoken.item_start_ms)


async def _in_pieces(sound: bytes) -> AsyncGenerator[bytes, None]:
    """Yield PCM16 of 16 kHz at the model's rate, in small pieces."""
    resampler = Resampler(HEARD_RATE, RATE)
    step = APPEND_BYTES * HEARD_RATE // RATE // 2 * 2
    for at in range(0, len(sound), step):
        piece = decoded(sound[at : at + step], "pcm16")
        yield encoded(resampler.resampled(piece, last=at + step >= len(sound)))
        await asyncio.sleep(0)


def _pcm(delta: object) -> bytes:
    """Return the sound of an event.

    Raises:
        UpstreamFailed: It is none.
    """
    try:
        pcm = base64.b64decode(str(delta), validate=True)
    except ValueError as error:
        raise UpstreamFailed("the model sent sound that is none") from error
    return pcm[: len(pcm) // 2 * 2]


def _result_text(result: ToolResult) -> str:
    """Return the result of a call as the model reads it."""
    message = result_message(result.call_id, result.status, result.output, result.error)
    return str(message["content"])


def _socket_url(base_url: str, model: str) -> str:
    """Return the URL of the WebSocket.

    Raises:
        ValueError: The URL is none.
    """
    parts = urlsplit(base_url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise ValueError("expected a URL such as wss://api.openai.com/v1: see base_url and OPENAI_BASE_URL")
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/realtime?model={quote(model)}"
