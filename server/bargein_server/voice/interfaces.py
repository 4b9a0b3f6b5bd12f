"""The four interfaces: detector, recogniser, turn judge, synthesiser.

Sound for detectors, recognisers and judges is an array of float32 samples from -1 to 1, mono, at `RATE`.
Sound of synthesisers is PCM16 little-endian mono at the rate of the synthesiser.

An implementation may have async methods `startup()` and `shutdown()`, which the server awaits.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from ..core.speech.words import Transcript as Transcript

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]
    """Mono sound: float32 samples from -1 to 1."""

RATE = 16_000
"""Samples per second of the sound for detectors, recognisers and judges."""


class NotInstalled(Exception):
    """A package, program or model is missing; with the command to install it."""


class VoiceError(Exception):
    """A recogniser or a synthesiser failed, or did not answer in time."""


class Detector(Protocol):
    """Detector of speech in short frames of many sessions.

    Its methods are called in one thread, which is not the event loop's.

    Attributes:
        frame_samples: Length of a frame, in samples at `RATE`.
    """

    frame_samples: int

    def open(self) -> object:
        """Return the state of a new session."""
        ...

    def speech(self, frames: Sequence[tuple[object, Samples]]) -> list[float]:
        """Return the probability of speech in each frame, from 0 to 1.

        Args:
            frames: States with the next frame of their sessions; each state occurs once. The states are
                changed in place.
        """
        ...


class Recogniser(Protocol):
    """Recogniser of speech."""

    async def transcribe(self, sound: Samples, *, quick: bool = False) -> Transcript:
        """Return the text of an utterance.

        A cancel means that the text is not wanted any more.

        Args:
            sound: The utterance, with some silence before it.
            quick: The text decides whether the user interrupts, so a fast answer counts more than an
                exact one.

        Raises:
            VoiceError: The recogniser failed.
        """
        ...


class Dictation(Protocol):
    """Transcription of one utterance, with words before its end."""

    async def partial(self, sound: Samples) -> str:
        """Return the words so far that are certain, during the utterance.

        Each text begins with the one before. A cancel means that the words are not wanted any more. It is
        called now and then, when there is time, and never twice at a time.

        Args:
            sound: The utterance up to now, from its beginning.

        Raises:
            VoiceError: The recogniser failed.
        """
        ...

    async def transcribe(self, sound: Samples, report: Callable[[str], None]) -> Transcript:
        """Return the text of the utterance, as `Recogniser.transcribe` does.

        It is called in a pause, again when the user goes on, and possibly beside a cancelled call.

        Args:
            sound: The utterance, with some silence before it.
            report: Called with the words so far that are certain; may be left out.

        Raises:
            VoiceError: The recogniser failed.
        """
        ...

    def close(self) -> None:
        """Drop the dictation; nothing of it is wanted any more."""
        ...


class StreamingRecogniser(Recogniser, Protocol):
    """Recogniser with a dictation for each utterance.

    `transcribe` is still used for quick answers.

    Attributes:
        partials: Whether its dictations give words while the user speaks.
    """

    partials: bool

    def open(self) -> Dictation:
        """Return the dictation of a new utterance."""
        ...


class TurnJudge(Protocol):
    """Judge of whether a user has finished, by the sound of the last words."""

    async def complete(self, sound: Samples) -> float:
        """Return the probability that the utterance is complete, from 0 to 1.

        Args:
            sound: The utterance up to now, with the beginning of the pause.

        Raises:
            VoiceError: The judge failed.
        """
        ...


class Spoken(Struct, frozen=True):
    """A piece of synthesised speech.

    Args:
        pcm: PCM16 little-endian mono at the voice's rate; may be empty.
        words: Words that begin, as the position of their first character in the text, and the
            milliseconds from the beginning of the text's sound. They may come before their sound. Both
            ascend. Empty for a voice without word times.
    """

    pcm: bytes
    words: tuple[tuple[int, int], ...] = ()


class Voice(Protocol):
    """Synthesiser of speech.

    Attributes:
        rate: Samples per second.
        word_times: Whether it reports when each word begins. Without, positions within a sentence are
            estimated by the number of letters.
    """

    rate: int
    word_times: bool

    def say(self, text: str) -> AsyncGenerator[Spoken, None]:
        """Yield the sound of a text in pieces, as soon as they exist.

        Closing it ends the synthesis.

        Args:
            text: A sentence or a few words, without markup.

        Raises:
            VoiceError: The synthesiser failed.
        """
        ...


class VoiceParts(Struct, frozen=True):
    """Parts of a server with voice; see `local.local_parts` for local ones.

    Args:
        detector: Finds speech.
        recogniser: Turns it into text; a `StreamingRecogniser` also before the end of an utterance.
        voice: Speaks the agent's text; None for an agent that makes its own sound, or none.
        judge: Judges whether the user has finished; None to wait for silence alone.
        language: A BCP 47 tag of the conversation: for the end of sentences, and for words of agreement.
    """

    detector: Detector
    recogniser: Recogniser
    voice: Voice | None = None
    judge: TurnJudge | None = None
    language: str = "en"
