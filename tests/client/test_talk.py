"""`bargein talk` with files, against a server that hears and speaks."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import AsyncIterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from bargein_server import EndedTurn, SessionContext, Turn
from fake_voice import COUGH, FakeVoice, fake_parts, silence, spoken
from live_server import serving
from terminal_session import on_pipes

RATE = 16_000


async def talker(turn: Turn) -> AsyncIterator[str]:
    """Talk for long to "talk", and repeat everything else."""
    yield "word " * 40 if turn.text == "talk" else f"You said {turn.text}."


def write_wav(path: Path, sound: bytes, rate: int = RATE, channels: int = 1) -> Path:
    """Write PCM16 and return the path."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(sound)
    return path


async def talk(*arguments: str) -> tuple[int, str, str]:
    """Run the command; return its code and what it wrote."""
    async with on_pipes("talk", *arguments) as process:
        async with asyncio.timeout(30):
            out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()


async def test_a_conversation_of_files(tmp_path: Path) -> None:
    """What was said, the answer, the sound of the answer, and an end by itself."""
    source = write_wav(tmp_path / "in.wav", silence(400) + spoken("hello", 600) + silence(300))
    sink = tmp_path / "out.wav"
    async with serving(talker, voice=fake_parts(voice=FakeVoice(24_000))) as server:
        code, out, err = await talk(f"127.0.0.1:{server.port}", "--file", str(source), "--out", str(sink))
    assert (code, out) == (0, "You said hello.\n")
    assert "you: hello" in err
    with wave.open(str(sink), "rb") as file:
        assert (file.getframerate(), file.getnchannels()) == (24_000, 1)
        frames = file.readframes(file.getnframes())
    samples = memoryview(frames).cast("h")
    assert [sum(sample == 1000 + word for sample in samples) for word in (1, 2, 3)] == [2400] * 3


async def test_a_barge_in_of_a_file(tmp_path: Path) -> None:
    """The answer falls silent; what was heard is written, and the cut is named."""
    sound = silence(300) + spoken("talk", 600) + silence(1500) + spoken("stop", 1200) + silence(300)
    source, sink = write_wav(tmp_path / "in.wav", sound), tmp_path / "out.wav"
    async with serving(talker, voice=fake_parts(voice=FakeVoice(24_000))) as server:
        code, out, err = await talk(f"127.0.0.1:{server.port}", "--file", str(source), "--out", str(sink))
    assert code == 0
    cut, answer = out.splitlines()
    assert cut.startswith("word word")
    assert answer == "You said stop."
    assert "stopped: you spoke" in err
    with wave.open(str(sink), "rb") as file:
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    played = sum(1000 < sample <= 1040 for sample in samples) // 2400
    assert abs(played - len(cut.split())) <= 1


async def test_a_whole_conversation_of_files(tmp_path: Path) -> None:
    """A cough loses no sample, a barge-in cuts; the server counts the words that were played."""
    ended: list[EndedTurn] = []

    class History:
        async def load(self, session: SessionContext) -> list[dict[str, Any]]:
            return []

        async def save(self, session: SessionContext, turn: EndedTurn) -> None:
            ended.append(turn)

    sound = silence(300) + spoken("talk", 600) + silence(1500) + spoken(COUGH, 200)
    sound += silence(1500) + spoken("stop", 1200) + silence(300)
    source, sink = write_wav(tmp_path / "in.wav", sound), tmp_path / "out.wav"
    async with serving(talker, voice=fake_parts(voice=FakeVoice(24_000)), history=History()) as server:
        code, out, err = await talk(f"127.0.0.1:{server.port}", "--file", str(source), "--out", str(sink))
    assert code == 0, err
    with wave.open(str(sink), "rb") as file:
        samples = memoryview(file.readframes(file.getnframes())).cast("h")
    played = [(value, len(list(run))) for value, run in groupby(sample for sample in samples if sample)]
    cut, whole = played[:-3], played[-3:]
    assert whole == [(1040 + word, 2400) for word in (1, 2, 3)]
    assert [value for value, _ in cut] == [1001 + word for word in range(len(cut))]
    assert {length for _, length in cut[:-1]} == {2400}
    assert 10 <= len(cut) < 40
    [talked, said] = ended
    assert (talked.status, talked.reason, said.status) == ("interrupted", "barge_in", "completed")
    assert len(talked.heard.split()) in (len(cut) - 1, len(cut))
    assert [line.rstrip() for line in out.splitlines()] == [talked.heard.rstrip(), "You said stop."]


async def test_a_server_without_ears(tmp_path: Path) -> None:
    """It says how to start one that listens."""
    source = write_wav(tmp_path / "in.wav", silence(100))
    async with serving(talker) as server:
        code, _, err = await talk(f"127.0.0.1:{server.port}", "--file", str(source))
    assert code == 1
    assert "--voice" in err


@pytest.mark.parametrize("fault", ["rate", "text", "missing"])
async def test_a_file_that_is_none(tmp_path: Path, fault: str) -> None:
    """The file and the remedy are named, before there is a connection."""
    source = tmp_path / "in.wav"
    if fault == "rate":
        write_wav(source, silence(100), rate=22_050)
    elif fault == "text":
        source.write_text("hello")
    code, _, err = await talk("127.0.0.1:9", "--file", str(source))
    assert code == 1
    assert "in.wav" in err
    assert "Traceback" not in err
    assert ("ffmpeg" in err) is (fault == "rate")
