"""Audio agent that plays each word as a short note.

It needs no voice to be installed. Like speech synthesis, it makes audio far faster than it is played, so it
exercises the duties of a client: to play evenly, to fall silent within one block, and to report playback.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator
from math import pi, sin
from sys import byteorder

from bargein_protocol import AudioDelta

from ..agent import Output, Turn

SAMPLES_PER_SECOND = 24_000
CHUNK_MS = 40
WORD_MS = 240
SCALE = (261.63, 293.66, 329.63, 392.0, 440.0, 523.25)
"""Pentatonic scale with its octave, in hertz: all its notes harmonise."""

LONG = (
    "This is the tone agent and each of these words is one note you can stop me in the middle of any "
    "of them and what you have heard is known to the millisecond because the page counts the samples "
    "that its loudspeaker was given and says so to the server which tells the next answer about it"
)


async def tone(turn: Turn) -> AsyncIterator[Output]:
    """Play the words of the input, or of a long text when they are few."""
    yield turn.status("Tuning", "music")
    words = turn.text.split()
    if len(words) < 4:
        words = LONG.split()
    start_ms = 0
    for number, word in enumerate(words):
        hertz = SCALE[(number * 2 + len(word)) % len(SCALE)]
        for offset_ms in range(0, WORD_MS, CHUNK_MS):
            yield AudioDelta(
                audio=note(hertz, offset_ms, CHUNK_MS, WORD_MS),
                start_ms=start_ms,
                duration_ms=CHUNK_MS,
                text=word + " " if offset_ms == 0 else None,
            )
            start_ms += CHUNK_MS
        await asyncio.sleep(0.01)


def note(hertz: float, offset_ms: int, duration_ms: int, whole_ms: int) -> bytes:
    """Return a piece of a note as PCM16.

    The encoding is little-endian, mono, `SAMPLES_PER_SECOND`.

    Args:
        hertz: Pitch of the note.
        offset_ms: Start of the piece in the note.
        duration_ms: Duration of the piece.
        whole_ms: Duration of the note, which fades in and out so that it does not click.
    """
    first = offset_ms * SAMPLES_PER_SECOND // 1000
    count = duration_ms * SAMPLES_PER_SECOND // 1000
    whole = whole_ms * SAMPLES_PER_SECOND / 1000
    samples = array("h")
    for index in range(first, first + count):
        loudness = min(1.0, 8 * index / whole, 3 * (1 - index / whole))
        samples.append(int(9000 * loudness * sin(2 * pi * hertz * index / SAMPLES_PER_SECOND)))
    if byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
