#!/usr/bin/env python3
"""Measure voice: barge-in, answers, coughs, noise, heard text, load.

    .venv/bin/python scripts/measure_voice.py                  all of it, about 8 minutes
    .venv/bin/python scripts/measure_voice.py barge-in noise   some of it

It starts a server with `--voice` on a free port, and callers on the same machine whose microphones and
loudspeakers follow the clock. Half of the speech is recorded (Debian's `pocketsphinx-testdata`); coughs are
synthetic. Speech begins and ends with the first and last 5 ms that are at most 20 dB below the loudest ones.
Times are wall-clock times: run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from bargein_server.voice.silero import SileroDetector
from talk.caller import Caller, Format, calling
from talk.clips import Clip, backchannels, noises, recorded, spoken
from talk.measures import Figures, answer, backchannel, barge_in, false_starts, listening_load

ROOT = Path(__file__).parent.parent
PARTS = ("barge-in", "mulaw", "answers", "judge", "backchannels", "noise", "listeners")
NOISE_S = 60.0
Measure = Callable[[Caller, Clip, Figures], object]


@asynccontextmanager
async def serving(voice: str, *flags: str) -> AsyncIterator[str]:
    """Run a server; yield the URL of its sessions."""
    command = [sys.executable, "-m", "bargein_server", "talk.agent:talker", "--port=0", f"--voice={voice}"]
    paths = os.pathsep.join(filter(None, (str(ROOT / "scripts"), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": paths, "BARGEIN_STORE": "none"}
    process = await asyncio.create_subprocess_exec(
        *command, *flags, stdout=asyncio.subprocess.PIPE, env=environment, cwd=ROOT / "scripts"
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        found = re.search(r"ws://\S+", line)
        assert found is not None, f"the server did not start: {line}"
        yield found[0]
    finally:
        process.terminate()
        await process.wait()


async def call(url: str, measure: Measure, clips: Iterable[Clip], audio: Format) -> Figures:
    """Measure with one caller, one clip after the other."""
    figures: Figures = {}
    async with calling(url, audio) as caller:
        await asyncio.sleep(1)
        for clip in clips:
            done = measure(caller, clip, figures)
            assert asyncio.iscoroutine(done)
            await done
    return figures


def show(title: str, figures: Figures) -> None:
    """Print figures as rows of a table."""
    print(f"\n| {title} | p50 | p90 | worst | n |\n|---|---|---|---|---|")
    for name, values in figures.items():
        if values:
            p50, p90, worst = np.percentile(values, [50, 90, 100])
            print(f"| {name} | {p50:.0f} | {p90:.0f} | {worst:.0f} | {len(values)} |")
        else:
            print(f"| {name} | - | - | - | 0 |")
    sys.stdout.flush()


async def conversations(parts: set[str], voice: str) -> None:
    """Measure the rows that need a server."""
    clips = spoken()
    plain = parts & {"barge-in", "mulaw", "answers", "backchannels"}
    if plain:
        async with serving(voice) as url:
            if "barge-in" in parts:
                show("Barge-in, ms", await call(url, barge_in, clips, Format()))
            if "mulaw" in parts:
                show("Barge-in over 8 kHz μ-law, ms", await call(url, barge_in, clips, Format(8000, "mulaw")))
            if "answers" in parts:
                show("Answers, ms", await call(url, answer, clips, Format(24_000)))
            if "backchannels" in parts:
                show("Coughs, hums, okay, ms", await call(url, backchannel, backchannels(), Format()))
    if "judge" in parts:
        async with serving(voice, "--turn-judge") as url:
            show("Answers with the turn judge, ms", await call(url, answer, clips, Format(24_000)))


def main() -> None:
    """Measure the parts that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure; all without")
    parser.add_argument("--voice", default="espeak", help="espeak or piper")
    options = parser.parse_args()
    parts = set(options.parts or PARTS)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    asyncio.run(conversations(parts, options.voice))
    if "noise" in parts:
        detector = SileroDetector()
        starts = {name: [float(false_starts(detector, sound))] for name, sound in noises(NOISE_S)}
        show("False starts in a minute at -30 dBFS", starts)
    if "listeners" in parts:
        sound = np.concatenate([clip.sound for clip in recorded()])
        for sessions in (20, 50, 100):
            show(f"{sessions} sessions, all speaking", listening_load(SileroDetector, sessions, sound, 15))


if __name__ == "__main__":
    main()
