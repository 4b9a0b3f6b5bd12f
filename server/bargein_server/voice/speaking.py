"""`speaking`: an operator that gives an agent a voice.

    agent = speaking(my_agent, EspeakVoice())

The text of the agent's main lane is spoken sentence by sentence, and everything else passes through
immediately. The sound goes out as `audio.delta`, one for each word, not much ahead of the loudspeaker. The
turn ends when its sound was played. So a hold, an interrupt and the heard text need no second mechanism: a
turn that sounds is a turn that runs.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, cast

from bargein_protocol import AudioDelta, AudioFormat, TextDelta

from ..agent import Agent, Output, Turn, TurnFailed, TurnHost, as_generator
from ..streams.buffering import merged, prefetched
from .interfaces import Voice, VoiceError
from .playout import Playout
from .sound import Encoding, Resampler, decoded, encoded
from .speech_text import Mark, SpeechText
from .word_spans import DEFAULT_MS_PER_CHAR, WordCutter, WordSpan

AHEAD_S = 0.4
MAX_SENTENCE_CHARS = 300
# Words that are synthesised before their turn comes: some seconds, and never a whole answer.
_SPANS_AHEAD = 24
# Sound that is converted at a time: 0.1 s take about 0.3 ms.
_PIECE_S = 0.1


class Speaking:
    """Agent with a voice for the text of another one; made by `speaking`.

    Args:
        agent: The agent.
        voice: Its voice.
        ahead_s: Sound that is sent before it is played, in seconds. An interrupt discards it.
        language: A BCP 47 tag of the text, for the end of sentences.

    Attributes:
        agent: The agent.
        voice: Its voice.
    """

    def __init__(self, agent: Agent, voice: Voice, ahead_s: float, language: str) -> None:
        self.agent: Agent = agent
        self.voice: Voice = voice
        self.__name__: str = getattr(agent, "__name__", type(agent).__name__)
        self.takes_attachments: object = getattr(agent, "takes_attachments", None)
        self._ahead_s = ahead_s
        self._language = language
        self._ms_per_char = DEFAULT_MS_PER_CHAR

    async def startup(self) -> None:
        """Start the voice, then the agent, if they have a `startup()`."""
        for part in (self.voice, self.agent):
            if (startup := getattr(part, "startup", None)) is not None:
                await startup()

    async def shutdown(self) -> None:
        """Stop the agent, then the voice, if they have a `shutdown()`."""
        for part in (self.agent, self.voice):
            if (shutdown := getattr(part, "shutdown", None)) is not None:
                await shutdown()

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Answer the turn, aloud if its client takes audio.

        Raises:
            TurnFailed: The voice failed: `upstream`.
        """
        wanted = turn.audio
        if wanted is None or not wanted.sample_bytes:
            async with aclosing(await as_generator(self.agent(turn))) as outputs:
                async for output in outputs:
                    yield output
            return
        text = SpeechText(self._language, MAX_SENTENCE_CHARS)
        playout = Playout(lambda: turn.played_ms)
        spoken = self._paced(prefetched(self._spans(text, wanted), ahead=_SPANS_AHEAD), playout, wanted)
        async with aclosing(merged(self._passing(turn, text), spoken)) as outputs:
            async for output in outputs:
                yield output

    async def _passing(self, turn: Turn, text: SpeechText) -> AsyncGenerator[Output, None]:
        """Yield all but the agent's text, and put the text into `text`."""
        inner = copy.copy(turn)
        inner._host = cast(TurnHost, _SpeakingHost(turn._host, text))
        try:
            async with aclosing(await as_generator(self.agent(inner))) as outputs:
                async for output in outputs:
                    said = _said(output)
                    if said is None:
                        yield output
                    else:
                        await text.put(said)
        except Exception as error:
            text.close(error)  # raised when the text before it was spoken
        else:
            text.close()

    async def _spans(self, text: SpeechText, wanted: AudioFormat) -> AsyncGenerator[WordSpan | Mark, None]:
        """Yield words with their sound in the wanted format, and marks."""
        before = ""  # white space between the sentences
        async with aclosing(text.sentences()) as sentences:
            async for sentence in sentences:
                if isinstance(sentence, Mark):
                    yield sentence
                elif not sentence.strip():
                    before += sentence
                else:
                    cutter = WordCutter(
                        sentence,
                        wanted.rate,
                        word_times=self.voice.word_times,
                        ms_per_char=self._ms_per_char,
                    )
                    try:
                        async with aclosing(self._sentence(sentence, cutter, wanted.rate)) as spans:
                            async for span in spans:
                                if before and span.text:
                                    span, before = WordSpan(span.pcm, before + span.text), ""
                                yield span
                    except VoiceError as error:
                        raise TurnFailed("upstream", retryable=True, detail=str(error)) from error
                    before = cutter.rest
                    if not self.voice.word_times:
                        self._ms_per_char = cutter.given_ms / len(sentence.rstrip())

    async def _sentence(self, sentence: str, cutter: WordCutter, rate: int) -> AsyncGenerator[WordSpan, None]:
        resampler: Resampler | None = None
        async with aclosing(self.voice.say(sentence)) as pieces:
            async for piece in pieces:
                size = int(self.voice.rate * _PIECE_S) * 2
                words = piece.words
                for start in range(0, max(len(piece.pcm), 1), size):
                    pcm = piece.pcm[start : start + size]
                    if rate != self.voice.rate and pcm:
                        resampler = resampler or Resampler(self.voice.rate, rate)
                        pcm = encoded(resampler.resampled(decoded(pcm, "pcm16")))
                    for span in cutter.add(pcm, words):
                        yield span
                    words = ()
                    if start:
                        await asyncio.sleep(0)  # a long piece is no reason to hold the event loop
        if resampler is not None:
            for span in cutter.add(encoded(resampler.resampled(decoded(b"", "pcm16"), last=True))):
                yield span
        for span in cutter.finish():
            yield span

    async def _paced(
        self, spans: AsyncGenerator[WordSpan | Mark, None], playout: Playout, wanted: AudioFormat
    ) -> AsyncGenerator[Output, None]:
        """Yield the sound of the words at their time; return when all was played."""
        samples = 0
        async with aclosing(spans):
            async for span in spans:
                if isinstance(span, Mark):
                    await playout.played()
                    span.reached.set()
                    continue
                await playout.room(self._ahead_s)
                start_ms = samples * 1000 // wanted.rate
                samples += len(span.pcm) // 2
                duration_ms = samples * 1000 // wanted.rate - start_ms
                playout.gave(duration_ms)
                audio = span.pcm
                if wanted.encoding != "pcm16":
                    audio = encoded(decoded(audio, "pcm16"), cast(Encoding, wanted.encoding))
                yield AudioDelta(
                    audio=audio, start_ms=start_ms, duration_ms=duration_ms, text=span.text or None
                )
            await playout.played()


def speaking(agent: Agent, voice: Voice, ahead_s: float = AHEAD_S, *, language: str = "en") -> Speaking:
    """Return an agent that gives another one's text a voice.

    A client that takes no audio gets the text, as without the operator, and nothing is synthesised for it.
    An interrupt cuts the sound and counts the words that were heard. A hold stops it; at most `ahead_s` and
    one word were sent before. In an uninterruptible section the sound counts: the section is left when it
    was played.

    Args:
        agent: The agent; its main lane is spoken.
        voice: The synthesiser.
        ahead_s: Sound that is sent before it is played, in seconds.
        language: A BCP 47 tag of the text, for the end of sentences.

    Raises:
        ValueError: `ahead_s` is negative.
    """
    if ahead_s < 0:
        raise ValueError(f"expected ahead_s to be at least 0, got {ahead_s}")
    return Speaking(agent, voice, ahead_s, language)


class _SpeakingHost:
    """Host of the inner agent: its text becomes sound, sections included."""

    def __init__(self, host: TurnHost, text: SpeechText) -> None:
        self._host = host
        self._text = text

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    async def emit(self, output: Output) -> None:
        said = _said(output)
        if said is None:
            await self._host.emit(output)
        else:
            await self._text.put(said)

    def section(self) -> AbstractAsyncContextManager[None]:
        return self._section()

    @asynccontextmanager
    async def _section(self) -> AsyncIterator[None]:
        async with self._host.section():
            yield
            await self._text.mark().reached.wait()


def _said(output: Output | None) -> str | None:
    """Return the text of an output of the main lane; None for others."""
    if isinstance(output, str):
        return output
    return output.text if isinstance(output, TextDelta) and not output.source else None
