"""Sound for measurements: recorded speech, coughs and noises, at 16 kHz."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from bargein_server.voice.interfaces import RATE
from bargein_server.voice.sound import Resampler, decoded

Samples = NDArray[np.float32]

RECORDED = Path("/usr/share/pocketsphinx/test/data")
MUSIC = Path("/usr/share/asterisk/moh")
_ONSET_DB, _FAINT_DB = 20, 35
_BLOCK = 80


class Clip(Struct):
    """Speech with the place at which it begins and ends.

    Args:
        name: Its name.
        sound: The sound.
        text: Its words; empty when they are not known.
    """

    name: str
    sound: Any
    text: str = ""

    @property
    def onset_s(self) -> float:
        """Time of the first 5 ms within 20 dB of the loudest ones."""
        return float(self._loud()[0]) * _BLOCK / RATE

    @property
    def end_s(self) -> float:
        """Time after the last such block."""
        return float(self._loud()[-1] + 1) * _BLOCK / RATE

    @property
    def faint_end_s(self) -> float:
        """Time after the last block within 35 dB: a last consonant, or breath."""
        return float(self._loud(_FAINT_DB)[-1] + 1) * _BLOCK / RATE

    def _loud(self, db: int = _ONSET_DB) -> NDArray[np.intp]:
        blocks = self.sound[: len(self.sound) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
        loudness = np.sqrt((blocks**2).mean(axis=1))
        return np.flatnonzero(loudness >= loudness.max() * 10 ** (-db / 20))


def read_wav(path: Path) -> Samples:
    """Return a file as mono sound at 16 kHz."""
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2
        sound = decoded(file.readframes(file.getnframes()), "pcm16")[:: file.getnchannels()]
        mono: Samples = Resampler(file.getframerate(), RATE).resampled(sound, last=True)
        return mono


def recorded() -> list[Clip]:
    """Return recorded speech: cards read out, and sentences of a book."""
    clips = []
    for folder, transcripts in (("cards", "cards.transcription"), ("librivox", "transcription")):
        for line in (RECORDED / folder / transcripts).read_text("utf-8").splitlines():
            text, _, name = line.rpartition("(")
            text = text.replace("<s>", "").replace("</s>", "").strip()
            name = name.strip(" )")
            clips.append(Clip(name, read_wav(RECORDED / folder / f"{name}.wav"), text))
    return clips


SENTENCES = (
    "Stop, that is not what I asked for.",
    "What time does the next train leave?",
    "Can you tell me more about the bridges?",
    "No, wait a moment.",
    "How far is it from there to the coast?",
)


def spoken() -> list[Clip]:
    """Return recorded speech, and synthesised sentences of two voices."""
    voices = ("en-us", "en-gb+f3")
    made = [Clip(text[:12], synthesised(text, voice=voice), text) for voice in voices for text in SENTENCES]
    return [clip for clip in recorded() if len(clip.sound) < 7.5 * RATE] + made


def synthesised(text: str, *, voice: str = "en-us") -> Samples:
    """Return espeak-ng's sound; phonemes stand in double square brackets."""
    program = shutil.which("espeak-ng")
    assert program is not None, "espeak-ng is not installed: apt-get install espeak-ng"
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run([program, "-v", voice, "-w", file.name, text], check=True)
        return read_wav(Path(file.name))


def backchannels() -> list[Clip]:
    """Return sounds that are no interruption: coughs, hums, "okay", "yeah"."""
    rng = np.random.default_rng(5)
    clips = [Clip(f"cough {number}", cough(rng)) for number in range(6)]
    for voice in ("en-us", "en-gb+f3"):
        for word, said in (("mhm", "[[m:h'm:]]"), ("hmm", "[[h@m:]]"), ("okay", "okay"), ("yeah", "yeah")):
            clips.append(Clip(f"{word} {voice}", synthesised(said, voice=voice), word))
    return clips


def cough(rng: np.random.Generator) -> Samples:
    """Return a synthetic cough: a burst, a voiced rest, a second burst."""
    length = int(RATE * rng.uniform(0.18, 0.32))
    times = np.arange(length) / RATE
    burst = rng.normal(0, 1, length) * np.exp(-times / rng.uniform(0.03, 0.07))
    pitch = rng.uniform(110, 190)
    voiced = sum(np.sin(2 * np.pi * pitch * k * times + k) / k for k in range(1, 12))
    sound = burst + 0.4 * voiced * np.exp(-times / 0.09)
    formed = np.convolve(sound, np.hanning(9) / 4, mode="same")
    cough: Samples = (0.3 * formed / np.abs(formed).max()).astype(np.float32)
    return cough


def noises(seconds: float) -> Iterator[tuple[str, Samples]]:
    """Yield noises at -30 dBFS: white, pink, brown, clicks, and any music."""
    rng = np.random.default_rng(7)
    count = int(seconds * RATE)
    white = rng.normal(0, 1, count)
    spectrum = np.fft.rfft(white)
    steps = np.maximum(np.arange(len(spectrum)), 1)
    clicks = np.zeros(count)
    for at in rng.integers(0, count - 200, int(seconds * 3)):
        clicks[at : at + 160] += rng.normal(0, 1, 160) * np.exp(-np.arange(160) / 20)
    yield "white noise", _at_level(white)
    yield "pink noise", _at_level(np.fft.irfft(spectrum / np.sqrt(steps), count))
    yield "brown noise", _at_level(np.fft.irfft(spectrum / steps, count))
    yield "clicks", _at_level(clicks)
    for path in sorted(MUSIC.glob("*.wav"))[:5]:
        yield f"music: {path.stem}", _at_level(read_wav(path)[:count])


def _at_level(sound: NDArray[Any], level_db: float = -30) -> Samples:
    level: Samples = (sound * 10 ** (level_db / 20) / np.sqrt(np.mean(sound**2))).astype(np.float32)
    return level
