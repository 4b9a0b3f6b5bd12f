"""The JavaScript client on the inputs of the Python client, on Node.js."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import fuzz_seeds
from hostile_conversation import Conversation, Played
from reference_event_stream import events_of
from seeded_fuzzing import Target, day_and_night

HARNESS = Path(__file__).parent / "replay.js"
BATCH = 10_000
STEPS = 60


def replay(
    target: Target, kind: str, inputs: Iterator[bytes], line: Callable[[bytes], Any], file: Path
) -> None:
    """Give inputs to the client, many to one process; one that fails is kept."""
    while batch := list(islice(inputs, BATCH)):
        file.write_text("\n".join(json.dumps(line(data)) for data in batch))
        command = ["node", str(HARNESS), kind, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode != 0:
            assert done.stdout, done.stderr
            failure = json.loads(done.stdout)
            target.fail(batch[failure["index"]], AssertionError(failure["error"]))


@day_and_night
def test_event_streams(night: bool, tmp_path: Path) -> None:
    """Events equal those of the reference, however the bytes are cut."""
    target = Target("event_stream", night, seeds=fuzz_seeds.STREAMS, words=fuzz_seeds.STREAM_WORDS)

    def line(data: bytes) -> Any:
        pieces = fuzz_seeds.pieces_of(data, target.chance)
        encoded = [base64.b64encode(piece).decode() for piece in pieces]
        return {"pieces": encoded, "events": events_of(data)}

    replay(target, "streams", target.inputs(50_000 if night else 5000), line, tmp_path / "streams")


@day_and_night
def test_frames(night: bool, tmp_path: Path) -> None:
    """A frame is taken, or refused with the error for it."""
    target = Target("json", night, seeds=fuzz_seeds.json_frames(), words=fuzz_seeds.JSON_WORDS)
    inputs = target.inputs(50_000 if night else 5000)
    replay(target, "frames", inputs, lambda data: base64.b64encode(data).decode(), tmp_path / "frames")


@day_and_night
def test_cores(night: bool, tmp_path: Path) -> None:
    """The cores of both languages give the same results to a server that sends any event in any order."""
    target = Target("core", night)

    def conversations() -> Iterator[bytes]:
        yield from target.inputs(0)
        for _ in range(1500 if night else 200):
            yield Conversation(target.chance).encoded(STEPS)

    def line(data: bytes) -> Any:
        played = Played()
        steps = [json.loads(step) for step in data.splitlines()]
        played.play(steps)
        return {"steps": steps, "results": played.results}

    replay(target, "cores", conversations(), line, tmp_path / "cores")
