"""The voice rows of the benchmark page, and the count of word errors."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from bargein_server.voice.interfaces import Transcript
from talk.table import ROWS, figures_of, merged, table
from talk.words import errors, recordings, word_errors, words


def test_each_row_is_a_quantile_or_a_sum() -> None:
    """Bold where the aim is reached; rows that were not measured are left out."""
    onsets = [float(ms) for ms in range(101)]
    parts = {
        "barge-in": {"onset → last sound out": onsets, "barge-in missed": [1.0, 1.0]},
        "noise": {"clicks": [0.0], "music": [0.0]},
        "text": {"ratio of p99": [1.25]},
    }
    found = figures_of(parts)
    lines = table(found)
    assert len(lines) == 2 + len(found) == 2 + 5
    assert "| the same, p90, ms | **90** | ≤ 150 |" in lines
    assert "| interrupts that were missed | 2 | 0 |" in lines
    assert "| false starts in a minute of each of nine noises at -30 dBFS, sum | **0** | 0 |" in lines
    assert "| text sessions beside 20 listeners: interrupt → end, p99, ratio | 1.2 | ≤ 1.2 |" in lines
    assert len({row.title for row in ROWS}) == len(ROWS)


def test_a_later_run_replaces_its_parts() -> None:
    """And leaves the others."""
    assert merged({"a": {"x": [1.0]}, "b": {}}, {"a": {"y": [2.0]}}) == {"a": {"y": [2.0]}, "b": {}}


@pytest.mark.parametrize(
    ("said", "read", "wrong"),
    [
        ("ten of clubs", "10 of Clubs.", 0),
        ("mister dashwood", "Mr. Dashwood", 0),
        ("eight of spades", "8th of spades", 1),
        ("one two three", "one three", 1),
        ("one three", "one two three four", 2),
        ("goodbye", "", 2),
    ],
)
def test_word_errors_are_counted_in_one_spelling(said: str, read: str, wrong: int) -> None:
    """Insertions, deletions and replacements."""
    assert errors(words(said), words(read)) == wrong


async def test_all_conditions_are_read() -> None:
    """Every recording, clean, in noise and by telephone, with the sound changed."""
    sounds = []

    class Deaf:
        async def transcribe(self, sound: np.ndarray, *, quick: bool = False) -> Transcript:
            sounds.append(sound)
            await asyncio.sleep(0)
            return Transcript("")

    figures = await word_errors(Deaf())
    clips = recordings()
    assert len(sounds) == 3 * len(clips)
    assert [figures[f"{name}: errors, %"] for name in ("clean", "pink noise, 10 dB", "telephone")] == [
        [100.0]
    ] * 3
    clean, noisy, narrow = (sounds[number * len(clips)] for number in range(3))
    assert 0.2 < np.sqrt(np.mean((noisy - clean) ** 2) / np.mean(clean**2)) < 0.5
    assert len(narrow) == pytest.approx(len(clean), abs=64)
