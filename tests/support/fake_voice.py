"""Detector, recogniser and voice of which every result is known beforehand.

Sound is loud or silent. Loud sound carries its words: bits of its samples spell a text, over and over. So the
text that a recogniser reads proves which sound it got, and no model is needed.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bargein_server.voice.interfaces import RATE, Spoken, Transcript, VoiceError, VoiceParts

if TYPE_CHECKING:
    from bargein_server.voice.interfaces import Samples

FRAME = 512
LOUD = 0x4000
WORD_MS = 100
SPEECH = 0.8
"""Probability of a loud frame: two of them are the start of speech."""
COUGH = "\x06"
"""Sound that a recogniser takes for no speech."""


def spoken(text: str, ms: int) -> bytes:
    """Return loud PCM16 at 16 kHz that says a text."""
    bits = np.unpackbits(np.frombuffer(text.encode() + b"\0", dtype=np.uint8))
    # A word of eight bits starts at each multiple of its length, marked by the sign of the samples.
    length = len(bits)
    count = RATE * ms // 1000
    sound = np.full(count, LOUD, dtype=np.int16)
    sound += np.tile(bits, count // length + 1)[:count].astype(np.int16) * 0x100
    sound[::length] += 0x1000
    return sound.astype("<i2").tobytes()


def silence(ms: int) -> bytes:
    """Return silent PCM16 at 16 kHz."""
    return bytes(2 * (RATE * ms // 1000))


def words_in(sound: Samples) -> str:
    """Return the text of the loud sound; empty when there is none whole."""
    linear = np.rint(sound * 32768).astype(int)
    loud = linear[linear >= LOUD - 0x80]
    starts = np.flatnonzero(loud >= LOUD + 0x1000 - 0x80)
    if len(starts) < 2:
        return ""
    bits = (loud[starts[0] : starts[1]] - LOUD) % 0x1000 // 0x100 & 1
    return np.packbits(bits.astype(np.uint8)).tobytes().rstrip(b"\0").decode()


def babble(seconds: float, seed: int) -> Samples:
    """Return loud sound whose bands rise and fall independently, as those of a voice do."""
    rng = np.random.default_rng(seed)
    times = np.arange(int(seconds * RATE)) / RATE
    sound = np.zeros(len(times), dtype=np.float32)
    for hertz in (250, 500, 750, 1100, 1500, 2000, 2700, 3400):
        loudness = rng.uniform(0.03, 1, int(seconds * 12) + 1) ** 2
        moving = np.repeat(loudness, RATE // 12 + 1)[: len(times)]
        sound += (np.sin(2 * np.pi * hertz * times) * moving).astype(np.float32)
    return sound * np.float32(0.3)


class FakeDetector:
    """Detector for which loud sound is speech.

    Attributes:
        batches: Sizes of the batches so far.
        failing: Whether it raises.
    """

    frame_samples = FRAME

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.failing = False

    def open(self) -> object:
        return []

    def speech(self, frames: Sequence[tuple[object, Samples]]) -> list[float]:
        assert len({id(state) for state, _ in frames}) == len(frames), "a session twice in a batch"
        self.batches.append(len(frames))
        if self.failing:
            raise RuntimeError("broken")
        return [SPEECH if float(np.abs(frame).mean()) >= 0.1 else 0.0 for _, frame in frames]


class FakeRecogniser:
    """Recogniser that reads what sound says.

    Attributes:
        asked: Sounds in seconds, and whether the answer was to be quick.
        delay_s: Time that an answer takes; infinite for never.
        failing: Whether it fails.
        cancelled: Number of answers that were not wanted any more.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[float, bool]] = []
        self.delay_s = 0.0
        self.failing = False
        self.cancelled = 0

    async def transcribe(self, sound: Samples, *, quick: bool = False) -> Transcript:
        self.asked.append((len(sound) / RATE, quick))
        if self.failing:
            raise VoiceError("the recogniser is broken")
        try:
            await asyncio.sleep(min(self.delay_s, 1e6))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        text = words_in(sound)
        return Transcript("", 0.95) if text == COUGH else Transcript(text, 0.0 if text else 0.9)


class Reader:
    """Recogniser that reads the texts of a list, one for each utterance; the last one again and again."""

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)

    async def transcribe(self, sound: Samples, *, quick: bool = False) -> Transcript:
        """Return the next text; a quick answer only looks at it."""
        text = self.texts[0] if quick or len(self.texts) == 1 else self.texts.pop(0)
        return Transcript(text, 0.0 if text else 0.95)


class FakeDictation:
    """Dictation that knows what is said: the first half of its text while the user speaks.

    Attributes:
        closed: Whether it was closed.
    """

    def __init__(self, text: str) -> None:
        self.closed = False
        self._text = text

    async def partial(self, sound: Samples) -> str:
        """Return the first half."""
        return self._text[: len(self._text) // 2]

    async def transcribe(self, sound: Samples, report: Callable[[str], None]) -> Transcript:
        """Report all but the last character, and return the text."""
        report(self._text[:-1])
        return Transcript(self._text)

    def close(self) -> None:
        """Remember it."""
        assert not self.closed
        self.closed = True


class FakeStreaming(Reader):
    """Recogniser whose dictations have one text.

    Attributes:
        dictations: The dictations so far.
    """

    partials = True

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.dictations: list[FakeDictation] = []

    def open(self) -> FakeDictation:
        """Return a new dictation."""
        self.dictations.append(FakeDictation(self.texts[0]))
        return self.dictations[-1]


class FakeVoice:
    """Voice that takes 100 ms for each word, whose sound has the number of the word in each sample.

    Attributes:
        said: Texts so far.
        closed: Number of texts that were not spoken to their end.
        failing: Whether it fails.
    """

    def __init__(self, rate: int = 8000, *, word_times: bool = True) -> None:
        self.rate = rate
        self.word_times = word_times
        self.said: list[str] = []
        self.closed = 0
        self.failing = False
        self._words = 0

    async def say(self, text: str) -> AsyncGenerator[Spoken, None]:
        self.said.append(text)
        if self.failing:
            raise VoiceError("the voice is broken")
        try:
            at = ms = 0
            for word in text.split():
                at = text.index(word, at)
                self._words += 1
                pcm = array("h", [1000 + self._words] * (self.rate * WORD_MS // 1000)).tobytes()
                yield Spoken(pcm, ((at, ms),) if self.word_times else ())
                at, ms = at + len(word), ms + WORD_MS
        except GeneratorExit:
            self.closed += 1
            raise


def fake_parts(**parts: Any) -> VoiceParts:
    """Return all parts as fakes, but those that are given."""
    return VoiceParts(**{"detector": FakeDetector(), "recogniser": FakeRecogniser(), **parts})
