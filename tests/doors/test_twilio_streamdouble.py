"""Phone calls with `streamdouble`, which plays Twilio in real time and checks each message."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamdouble.api import CallReport, run_scenario
from streamdouble.scenario import load
from streamdouble.session import SessionConfig

from bargein_server import Turn
from bargein_server.voice.sound import encoded
from fake_voice import FakeVoice, Reader, babble, fake_parts
from live_server import serving


async def talker(turn: Turn) -> AsyncIterator[Any]:
    """Count for long to "talk", and repeat everything else."""
    yield "word " * 30 if turn.text == "talk" else f"You said {turn.text}."


def recorded(path: Path, ms: int) -> None:
    """Write a file of speech."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(encoded(babble(ms / 1000, 7)[::2]))


async def called(
    folder: Path, steps: list[str], *texts: str, **parameters: str
) -> tuple[CallReport, FakeVoice]:
    """Play a scenario to a server whose recogniser reads the texts."""
    recorded(folder / "speech.wav", 900)
    (folder / "call.yaml").write_text(
        "".join(["name: a call\nsteps:\n", *(f"  - {step}\n" for step in steps)]), "utf-8"
    )
    voice = FakeVoice()
    parts = fake_parts(voice=voice, recogniser=Reader(*texts))
    async with serving(talker, voice=parts, doors=["twilio"]) as served:
        report = await run_scenario(
            f"ws://127.0.0.1:{served.port}/v1/twilio",
            load(folder / "call.yaml"),
            config=SessionConfig(custom_parameters=parameters, quiet_period_s=0.5),
        )
    return report, voice


async def test_an_answered_question(tmp_path: Path) -> None:
    """No message violates the protocol; all marks come back."""
    steps = ["wait: 0.3", "say: speech.wav", "wait_for: mark", "wait: 0.5", "expect: audio", "hangup"]
    report, voice = await called(tmp_path, steps, "hello")
    assert report.violations == []
    assert report.result.failed_expectations == []
    assert voice.said == ["You said hello."]
    assert len(report.audio_received) == 3 * 800
    assert report.result.marks_echoed == report.result.marks_received == ["0.1", "0.2", "0.3"]


async def test_a_barge_in_clears(tmp_path: Path) -> None:
    """The agent speaks first, the caller cuts in, and what was said is answered."""
    steps = ["wait_for: audio", "wait: 0.5", "say: speech.wav", "wait: 1.5", "expect: clear", "hangup"]
    report, voice = await called(tmp_path, steps, "stop it", input="talk")
    assert report.violations == []
    assert report.result.failed_expectations == []
    assert voice.said[-1] == "You said stop it."
    samples = np.frombuffer(report.audio_received, dtype=np.uint8)
    assert len(samples) < 8 * 100 * 30


async def test_keys(tmp_path: Path) -> None:
    """A pause ends the entry."""
    steps = ['dtmf: "42"', "wait: 2.2", "expect: audio", "hangup"]
    report, voice = await called(tmp_path, steps, "")
    assert report.violations == []
    assert voice.said == ["You said 42."]


@pytest.fixture(autouse=True)
def loopback_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no proxy of the environment."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
