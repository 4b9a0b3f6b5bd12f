#!/usr/bin/env python3
"""Measure voice: barge-in, answers, coughs, noise, heard text, load.

    .venv/bin/python scripts/measure_voice.py                  all of it, about 15 minutes
    .venv/bin/python scripts/measure_voice.py barge-in noise   some of it
    .venv/bin/python scripts/measure_voice.py --json FILE      keep the figures

It starts a server with `--voice` on a free port, and callers on the same machine whose microphones and
loudspeakers follow the clock. Half of the speech is recorded (Debian's `pocketsphinx-testdata`); coughs are
synthetic. Speech begins and ends with the first and last 5 ms that are at most 20 dB below the loudest ones.
Times are wall-clock times: run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np

from bargein_server.voice.silero import SileroDetector
from bargein_server.voice.whisper import WhisperRecogniser
from talk.beside import beside
from talk.caller import Caller, Format, calling
from talk.clips import Clip, backchannels, noises, recorded, spoken
from talk.measures import Figures, answer, backchannel, barge_in, false_starts, listening_load
from talk.table import Parts, figures_of, merged, table
from talk.words import word_errors

ROOT = Path(__file__).parent.parent
PARTS = ("barge-in", "mulaw", "answers", "judge", "backchannels", "noise", "listeners", "text", "words")
NOISE_S = 60.0
Measure = Callable[[Caller, Clip, Figures], object]


@asynccontextmanager
async def serving(voice: str, *flags: str, agent: str = "talk.agent:talker") -> AsyncIterator[str]:
    """Run a server; yield the URL of its sessions."""
    command = [sys.executable, "-m", "bargein_server", agent, "--port=0", f"--voice={voice}"]
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


async def conversations(parts: set[str], voice: str, found: Parts) -> None:
    """Measure the parts that need a server."""
    clips = spoken()
    if parts & {"barge-in", "mulaw", "answers", "backchannels"}:
        async with serving(voice) as url:
            if "barge-in" in parts:
                found["barge-in"] = await call(url, barge_in, clips, Format())
                show("Barge-in, ms", found["barge-in"])
            if "mulaw" in parts:
                found["mulaw"] = await call(url, barge_in, clips, Format(8000, "mulaw"))
                show("Barge-in over 8 kHz μ-law, ms", found["mulaw"])
            if "answers" in parts:
                found["answers"] = await call(url, answer, clips, Format(24_000))
                show("Answers, ms", found["answers"])
            if "backchannels" in parts:
                found["backchannels"] = await call(url, backchannel, backchannels(), Format())
                show("Coughs, hums, okay, ms", found["backchannels"])
    if "judge" in parts:
        async with serving(voice, "--turn-judge") as url:
            found["judge"] = await call(url, answer, clips, Format(24_000))
            show("Answers with the turn judge, ms", found["judge"])
    if "text" in parts:
        async with serving(voice, agent="loadgen.agent:agent") as url:
            found["text"] = await beside(url)
            show("Interrupts of text sessions, ms", found["text"])
    if "words" in parts:
        found["words"] = await word_errors(WhisperRecogniser())
        show("Words", found["words"])


def detection(parts: set[str], found: Parts) -> None:
    """Measure the parts that need only a detector."""
    if "noise" in parts:
        detector = SileroDetector()
        found["noise"] = {name: [float(false_starts(detector, sound))] for name, sound in noises(NOISE_S)}
        show("False starts in a minute at -30 dBFS", found["noise"])
    if "listeners" in parts:
        sound = np.concatenate([clip.sound for clip in recorded()])
        for sessions in (20, 50, 100):
            figures = listening_load(SileroDetector, sessions, sound, 15)
            found[f"{sessions} listeners"] = figures
            show(f"{sessions} sessions, all speaking", figures)


def measured(parts: set[str], voice: str) -> Parts:
    """Measure parts; print the figures of each and return them."""
    found: Parts = {}
    asyncio.run(conversations(parts, voice, found))
    detection(parts, found)
    return found


def keep(found: Parts, file: Path) -> Parts:
    """Write figures to a file, in place of those of the same parts.

    Returns:
        All figures of the file.
    """
    old = json.loads(file.read_text("utf-8")) if file.exists() else {}
    rounded = {
        part: {name: [round(float(value), 2) for value in values] for name, values in figures.items()}
        for part, figures in found.items()
    }
    both = merged(old, rounded)
    file.write_text(json.dumps(both) + "\n", "utf-8")
    return both


def main() -> None:
    """Measure the parts that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="parts to measure; all without")
    parser.add_argument("--voice", default="espeak", help="espeak or piper")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures")
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    found = measured(set(options.parts or PARTS), options.voice)
    if options.json is not None:
        found = keep(found, options.json)
    print("", *table(figures_of(found)), sep="\n")


if __name__ == "__main__":
    main()
