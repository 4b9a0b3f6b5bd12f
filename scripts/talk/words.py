"""Word errors on recorded speech: clean, in noise, and by telephone."""

from __future__ import annotations

import re
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from bargein_server.voice.interfaces import RATE, Recogniser
from bargein_server.voice.sound import Resampler, decoded, encoded

from .clips import Clip, Samples, noises, recorded
from .measures import Figures

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
TEXTS = {
    "all-circuits-busy-now": "all circuits are busy now",
    "cannot-complete-as-dialed": "your call cannot be completed as dialed",
    "check-number-dial-again": "please check the number and dial again",
    "conf-getpin": "please enter the conference pin number",
    "conf-onlyperson": "you are currently the only person in this conference",
    "conf-placeintoconf": "you will now be placed into the conference",
    "conf-waitforleader": "the conference will begin when the leader arrives",
    "feature-not-avail-line": "i'm sorry that feature is not available on this line",
    "number-not-answering": "the number is not answering",
    "one-moment-please": "one moment please",
    "please-try-again": "please try again",
    "please-try-call-later": "please try your call later",
    "pls-hold-while-try": "please hold while i try that extension",
    "queue-thankyou": "thank you for your patience",
    "something-terribly-wrong": "something is terribly wrong",
}
"""Words of recordings of a studio speaker."""

_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_SPELT = {"dialled": "dialed", "mr": "mister", "goodbye": "good bye"}


def recordings() -> list[Clip]:
    """Return recorded speech: cards, sentences of a book, a studio speaker."""
    return recorded() + [
        Clip(name, _studio(PROMPTS / f"{name}.g722"), text)
        for name, text in TEXTS.items()
        if (PROMPTS / f"{name}.g722").exists() and find_spec("av") is not None
    ]


def _studio(path: Path) -> Samples:
    av = import_module("av")
    with av.open(str(path), format="g722") as file:
        pieces = [frame.to_ndarray()[0] for frame in file.decode(audio=0)]
    sound: Samples = np.concatenate(pieces).astype(np.float32) / np.float32(32768)
    return sound


def words(text: str) -> list[str]:
    """Return the words of a text in one spelling: numbers as words."""
    found = re.findall(r"[a-z0-9']+", text.lower())
    spelt = (_NUMBERS[int(word)] if word.isdigit() and int(word) <= 10 else word for word in found)
    return " ".join(_SPELT.get(word, word) for word in spelt).split()


def errors(said: list[str], read: list[str]) -> int:
    """Return the number of words to insert, remove or replace."""
    row = list(range(len(read) + 1))
    for number, word in enumerate(said, 1):
        before, row[0] = row[0], number
        for place, other in enumerate(read, 1):
            before, row[place] = row[place], min(before + (word != other), row[place] + 1, row[place - 1] + 1)
    return row[-1]


def _in_noise(sound: Samples, noise: Samples, distance_db: float) -> Samples:
    level = np.sqrt(np.mean(sound**2)) / np.sqrt(np.mean(noise**2)) * 10 ** (-distance_db / 20)
    mixed: Samples = (sound + noise[: len(sound)] * level).astype(np.float32)
    return mixed


def _by_telephone(sound: Samples) -> Samples:
    narrow = encoded(Resampler(RATE, 8000).resampled(sound, last=True), "mulaw")
    wide: Samples = Resampler(8000, RATE).resampled(decoded(narrow, "mulaw"), last=True)
    return wide


async def word_errors(recogniser: Recogniser) -> Figures:
    """Return the word errors in percent by condition, and the CPU time of one."""
    clips = recordings()
    pink = dict(noises(20.0))["pink noise"]
    said = sum(len(words(clip.text)) for clip in clips)
    conditions = {
        "clean": lambda sound: sound,
        "pink noise, 10 dB": lambda sound: _in_noise(sound, pink, 10),
        "telephone": _by_telephone,
    }
    figures: Figures = {f"words: {said} in {len(clips)} recordings": [float(said)]}
    for name, changed in conditions.items():
        wrong, spent = 0, []
        for clip in clips:
            began = time.process_time()
            transcript = await recogniser.transcribe(changed(clip.sound))
            spent.append(1000 * (time.process_time() - began))
            wrong += errors(words(clip.text), words(transcript.text))
        figures[f"{name}: errors, %"] = [100 * wrong / said]
        figures[f"{name}: processor, ms"] = spent
    return figures
