"""Sound for Realtime sessions: an agent that talks, its listener, and pieces of speech.

async with serving(talker, doors=["realtime"], voice=listening("hello")) as server: …
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np

from bargein_server import Turn
from bargein_server.voice.interfaces import VoiceParts
from bargein_server.voice.sound import encoded
from fake_voice import FakeVoice, Reader, fake_parts

RATE = 24_000
PIECE_MS = 40


def listening(*texts: str) -> VoiceParts:
    """Return the parts of a server that hears these texts and speaks."""
    return fake_parts(voice=FakeVoice(), recogniser=Reader(*texts))


async def talker(turn: Turn) -> AsyncIterator[str]:
    """Talk for long to "talk", and repeat everything else."""
    yield "word " * 25 if turn.text == "talk" else f"You said {turn.text}."


def sound(ms: int, loud: bool, rate: int = RATE) -> np.ndarray[Any, Any]:
    """Return a tone, or silence."""
    times = np.arange(rate * ms // 1000) / rate
    return (np.sin(2 * np.pi * 300 * times) * (0.5 if loud else 0)).astype(np.float32)


def in_pieces(*sounds: np.ndarray[Any, Any]) -> Iterator[str]:
    """Yield sound as a client appends it: PCM of 40 ms in base64."""
    data = encoded(np.concatenate(sounds))
    step = RATE * PIECE_MS // 1000 * 2
    for start in range(0, len(data), step):
        yield base64.b64encode(data[start : start + step]).decode()
