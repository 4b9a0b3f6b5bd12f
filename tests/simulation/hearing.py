"""Ears of a simulated server: a detector and a recogniser in virtual time, late and failing by seed.

Sound is silent or loud. Each loud sample is the number of a phrase, so the words that a recogniser finds
prove which sound it was given. Coughs and hums are phrases too.
"""

from __future__ import annotations

import asyncio
import random
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bargein_server.core import (
    CancelRecognition,
    Judge,
    Recognition,
    ReportFrames,
    StartListening,
    StopListening,
    TakeAudio,
    Transcribe,
)
from bargein_server.core.speech.floor import FRAME_SAMPLES, Frame
from bargein_server.core.speech.listening import Listening
from bargein_server.core.speech.negotiation import AudioSupport
from bargein_server.core.speech.words import Transcript

from .oracle import Oracle

if TYPE_CHECKING:
    from bargein_server.hosting.host import SessionHost

COUGH, HUM, FIRST_PHRASE = 1, 2, 3
RATE = 16_000
PIECE_MS = 20
LOUD, SILENT = 0.8, 0.02
RECOGNITION_S = 5.0
"""The longest time that a recogniser has."""


class Phrases:
    """What users say, by the number that stands in its sound."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def sound(self, text: str, ms: int) -> bytes:
        """Return sound that says a text, then a silence that ends speech."""
        self._texts.append(text)
        return self.noise(FIRST_PHRASE + len(self._texts) - 1, ms)

    def noise(self, number: int, ms: int) -> bytes:
        """Return loud sound, then a silence that ends speech."""
        loud = array("h", [number]) * (RATE * ms // 1000)
        return loud.tobytes() + bytes(2 * (RATE * 700 // 1000))

    def understood(self, sound: Sequence[int], request: int) -> Transcript:
        """Return the words of a sound: of its last phrase, if it has any; no input has the same twice."""
        numbers = [number for number in sound if number]
        phrases = [number for number in numbers if number >= FIRST_PHRASE]
        if phrases:
            return Transcript(f"{self._texts[phrases[-1] - FIRST_PHRASE]}.{request}")
        return Transcript("Okay.") if HUM in numbers else Transcript("Hm", 0.95)


class SimulatedEars:
    """Ears of a server; see the module.

    Args:
        loop: The loop.
        chance: Decides on delays and failures.
        oracle: What is known of the run.
        phrases: What users say.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, chance: random.Random, oracle: Oracle, phrases: Phrases
    ) -> None:
        self.loop = loop
        self.chance = chance
        self.oracle = oracle
        self.phrases = phrases
        self.places = chance.choice([1, 100, 100, 100])
        self.support = AudioSupport(hears=True, judges=chance.random() < 0.3, admit=self._admit)
        self.slow_s = chance.choice([0.0, 0.05, 0.4, 3.0])
        self.fails = chance.choice([0.0, 0.0, 0.2])

    def _admit(self, again: bool) -> bool:
        if self.places == 0:
            return False
        self.places -= 1
        return True

    async def shut_down(self) -> None:
        """Do nothing: there is no thread."""

    def ear_of(self, host: SessionHost) -> SimulatedEar:
        """Return the ear of a session."""
        return SimulatedEar(self, host)


class SimulatedEar:
    """Ear of one session."""

    def __init__(self, ears: SimulatedEars, host: SessionHost) -> None:
        self._ears = ears
        self._host = host
        self._sound = array("h")
        self._from = 0  # position of the first sample of `_sound`
        self._framed = 0
        self._detects = self._listens = False
        self._results: deque[Frame] = deque()
        self._due: asyncio.TimerHandle | None = None
        self._requests: dict[int, asyncio.TimerHandle] = {}

    @property
    def _listening(self) -> Listening:
        listening = self._host.core.audio.listening
        assert listening is not None
        return listening

    def carry_out(self, command: Recognition) -> None:
        """Carry out a command of the core."""
        match command:
            case StartListening(_, at, detects):
                self._sound, self._from, self._framed = array("h"), at, at
                self._detects, self._listens = detects, True
            case StopListening():
                self._ears.places += self._listens
                self._listens = False
                self._results.clear()
            case TakeAudio(audio, at):
                self._take(audio, at)
            case ReportFrames():
                self._deliver()
            case CancelRecognition(request):
                if (handle := self._requests.pop(request, None)) is not None:
                    handle.cancel()
            case Transcribe() | Judge():
                self._recognise(command)

    def _take(self, audio: bytes, at: int) -> None:
        oracle = self._ears.oracle
        oracle.expect(at == self._from + len(self._sound), f"sound at {at} was doubled or lost")
        self._sound.frombytes(audio)
        keep = min(self._listening.keep_from, self._framed) - self._from
        if keep > RATE:  # a ring: what nobody can ask for any more is forgotten
            del self._sound[:keep]
            self._from += keep
        while self._detects and self._framed + FRAME_SAMPLES <= self._from + len(self._sound):
            start = self._framed - self._from
            loud = sum(map(bool, self._sound[start : start + FRAME_SAMPLES])) > FRAME_SAMPLES // 2
            self._framed += FRAME_SAMPLES
            self._results.append(Frame(self._framed, LOUD if loud else SILENT))
        if self._results and self._due is None:
            delay = self._ears.chance.random() ** 4 * 0.2
            self._due = self._ears.loop.call_later(delay, self._deliver)

    def _deliver(self) -> None:
        self._due = None
        if self._results:
            frames = list(self._results)
            self._results.clear()
            self._host.act(self._listening.frames, frames)

    def _recognise(self, command: Transcribe | Judge) -> None:
        ears, chance = self._ears, self._ears.chance
        start, end = command.start - self._from, command.end - self._from
        ears.oracle.expect(
            0 <= start <= end <= len(self._sound), f"{command} asks for sound that is gone or never came"
        )
        sound = self._sound[max(0, start) : end]
        delay = chance.random() * ears.slow_s
        answer: Callable[[], object]
        if isinstance(command, Judge):
            complete = chance.random()
            answer = lambda: self._host.act(self._listening.judged, command, complete)  # noqa: E731
        elif chance.random() < ears.fails:
            delay = chance.choice([delay, RECOGNITION_S])
            answer = lambda: self._host.act(self._listening.failed, command)  # noqa: E731
        else:
            words = ears.phrases.understood(sound, command.request)
            answer = lambda: self._host.act(self._listening.transcribed, command, words)  # noqa: E731
        self._requests[command.request] = ears.loop.call_later(delay, self._answer, command.request, answer)

    def _answer(self, request: int, answer: Callable[[], object]) -> None:
        del self._requests[request]
        answer()
