"""The load of callers who speak: what it counts, against a server that hears and speaks by fakes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from bargein_server.voice.interfaces import RATE
from bargein_server.voice.sound import decoded
from fake_voice import COUGH, FakeVoice, fake_parts, spoken
from live_server import serving
from talk.agent import talker
from talk.caller import Format, LineLost, calling
from talk.checks import Checks
from talk.clips import Clip
from talk.conversation import Conversation, Plan
from talk.load import FAULTS, _memory, parse, report

PLAN = Plan(
    speech=[Clip("stop", decoded(spoken("stop it now", 700), "pcm16"))],
    noises=[Clip("cough", decoded(spoken(COUGH, 200), "pcm16"))],
    drops=0.6,
    coughs=0.4,
)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve the agent of the measurements."""
    async with serving(talker, voice=fake_parts(voice=FakeVoice(16_000))) as server:
        yield server.url


@pytest.mark.alone  # sound goes by the clock
async def test_callers_whose_lines_drop_lose_nothing(url: str) -> None:
    """Every format; interrupts and coughs are told apart."""
    counts: Counter[str] = Counter()
    until = asyncio.get_running_loop().time() + 12
    async with asyncio.TaskGroup() as group:
        for number, audio in enumerate((Format(16_000), Format(8000), Format(48_000))):
            talk = Conversation(PLAN, Random(number), counts, {})
            group.create_task(talk.talk(url, audio, until))
    assert {name: counts[name] for name in FAULTS if counts[name]} == {}
    assert counts["lines dropped"] >= 2
    assert counts["turns"] >= 6
    assert not [name for name in counts if name.startswith("line lost")]


async def test_a_line_that_the_server_ends_is_an_error(url: str) -> None:
    """Its user does not wait for events any more."""

    async def lose() -> None:
        async with calling(url, Format()) as caller:
            line = caller._line
            assert line is not None
            await line.close()
            await asyncio.sleep(10)

    with pytest.raises(LineLost, match="closed the connection"):
        await lose()


def _checked(*events: dict[str, Any]) -> Counter[str]:
    """Return the counts of a caller at 16 kHz that gets these events, numbered, in a turn."""
    counts: Counter[str] = Counter()
    caller: Any = SimpleNamespace(format=Format(), sent=RATE)
    checks = Checks(caller, counts)
    checks.take({"type": "input.accepted", "input_id": "i", "turn_id": "t", "seq": 1})
    for number, event in enumerate(events):
        checks.take({"turn_id": "t", "seq": number + 2, **event})
    return +counts


def _sound(start_ms: int, ms: int, samples: int = 0) -> dict[str, Any]:
    audio = "AAAA" * (2 * (16 * ms + samples) // 3 + 1)
    length = 2 * (16 * ms + samples)
    return {
        "type": "audio.delta", "start_ms": start_ms, "duration_ms": ms,
        "audio": audio[: length // 3 * 4] + ("AA==" if length % 3 == 1 else "AAA=" if length % 3 else ""),
    }  # fmt: skip


ENDED = {"type": "turn.ended", "status": "completed", "reason": "completed", "heard": {"audio_ms": 0}}


@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([_sound(0, 90), _sound(90, 90)], None),
        ([_sound(0, 90), _sound(180, 90)], "sound lost, ms"),
        ([_sound(0, 90), _sound(0, 90)], "sound doubled, ms"),
        ([_sound(0, 90, samples=-16), _sound(90, 90)], "sound lost, ms"),
        ([{**_sound(0, 90), "seq": 3}], "events lost"),
        ([{**_sound(0, 90), "seq": 1}], "events doubled"),
        ([ENDED, _sound(0, 90)], "sound after the end"),
        ([ENDED, ENDED], "ends doubled"),
        ([{**ENDED, "heard": {"audio_ms": 1}}], "heard more than was sent"),
        ([{"type": "turn.held"}, _sound(0, 90)], "sound while held"),
        ([{"type": "turn.resumed"}], "holds that do not fit"),
        ([{"type": "speech.started", "at_ms": 64}, {"type": "speech.stopped", "at_ms": 320}], None),
        ([{"type": "speech.started", "at_ms": 70}], "audio clock wrong"),
        ([{"type": "speech.started", "at_ms": 1024}], "audio clock ahead"),
        ([{"type": "speech.stopped", "at_ms": 320}], "speech that does not fit"),
    ],
)
def test_each_fault_is_counted(events: list[dict[str, Any]], fault: str | None) -> None:
    """And nothing else is one."""
    counts = _checked(*events)
    assert [name for name in FAULTS if counts[name]] == ([fault] if fault else [])


def test_speech_that_stops_with_its_line_has_the_time_of_the_old_clock() -> None:
    """It is sent on the next connection; the clock goes on with other frames there."""
    counts: Counter[str] = Counter()
    caller: Any = SimpleNamespace(format=Format(), sent=RATE)
    checks = Checks(caller, counts)
    checks.take({"type": "speech.started", "at_ms": 640, "seq": 1})
    caller.sent = RATE + 16 * 20
    checks.line_cut()
    caller.sent += RATE
    checks.take({"type": "speech.stopped", "at_ms": 960, "seq": 2})
    checks.take({"type": "speech.started", "at_ms": 1020 + 64, "seq": 3})
    assert +counts == Counter()


def test_the_report_has_memory_and_faults() -> None:
    """Memory after a warm-up and at the end, and its slope."""
    memory = _memory([(at * 60.0, 100 + at) for at in range(60)])
    assert memory == {"after_warm_up": 119.0, "at_the_end": 155.0, "slope_per_hour": 60.0}
    counts, times = {"turns": 3}, {"held": {"count": 1, "p50": 1.0, "p90": 1.0, "p99": 1.0, "max": 1.0}}
    text = report({"counts": counts, "times": times, "memory": memory, "faults": {"turns hung": 1}})
    assert "119 MiB after a warm-up, 155 at the end, +60 an hour" in text
    assert "FAULT: turns hung: 1" in text
    assert parse(["ws://h/", "--voice"]).sessions == 8
