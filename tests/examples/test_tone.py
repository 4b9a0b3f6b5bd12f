"""The tone agent."""

from __future__ import annotations

import asyncio
import itertools
from array import array

import pytest

from bargein_protocol import AudioDelta, AudioFormat, SessionAudio, SessionOpen
from bargein_server.examples.demo import CHUNK_MS, LONG, SAMPLES_PER_SECOND, WORD_MS, note, tone
from memory_client import Line, serve


async def speech(text: str) -> list[AudioDelta]:
    """Return what it says."""
    line = Line(serve(tone))
    line.send(SessionOpen(audio=SessionAudio(output=AudioFormat(rate=SAMPLES_PER_SECOND))))
    line.ask(text)
    while not line.ends():
        await asyncio.sleep(0.01)
    assert line.ends()[0].status == "completed"
    return [event for event in line.events if isinstance(event, AudioDelta)]


@pytest.mark.virtual_time
async def test_each_word_is_a_note() -> None:
    """The pieces follow each other without a gap, are as long as they say, and carry the user's words."""
    pieces = await speech("these four are words")
    assert "".join(piece.text or "" for piece in pieces) == "these four are words "
    assert [piece.start_ms for piece in pieces] == list(range(0, 4 * WORD_MS, CHUNK_MS))
    for piece in pieces:
        assert len(piece.audio) == 2 * SAMPLES_PER_SECOND * piece.duration_ms // 1000


@pytest.mark.virtual_time
async def test_a_client_without_audio_gets_the_words() -> None:
    """Nothing is synthesised for it."""
    line = Line(serve(tone))
    line.ask("these four are words")
    while not line.ends():
        await asyncio.sleep(0.01)
    assert line.ends()[0].heard.text == "these four are words "
    assert not [event for event in line.events if isinstance(event, AudioDelta)]


@pytest.mark.virtual_time
async def test_few_words_get_a_long_answer() -> None:
    """So that there is something to interrupt."""
    assert "".join(piece.text or "" for piece in await speech("hi")).split() == LONG.split()


@pytest.mark.parametrize("hertz", [261.63, 523.25])
def test_a_note_has_its_pitch_and_does_not_click(hertz: float) -> None:
    """It crosses zero twice a period, is cut into pieces anywhere, begins and ends in silence."""
    whole = array("h", note(hertz, 0, WORD_MS, WORD_MS))
    pieces = b"".join(note(hertz, at, CHUNK_MS, WORD_MS) for at in range(0, WORD_MS, CHUNK_MS))
    assert whole.tobytes() == pieces
    crossings = sum((a < 0) != (b < 0) for a, b in itertools.pairwise(whole))
    assert crossings == pytest.approx(2 * hertz * WORD_MS / 1000, abs=3)
    assert max(map(abs, whole)) > 5000
    assert abs(whole[0]) < 100
    assert abs(whole[-1]) < 300
