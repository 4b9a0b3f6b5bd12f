"""The measurements, each a list of figures by name."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from bargein_protocol import AudioFormat
from bargein_server.core.speech.floor import Fact, Floor, Rules
from bargein_server.hosting.hearing.detector_thread import DetectorThread, Ear, Heard
from bargein_server.voice.interfaces import RATE, Detector
from bargein_server.voice.sound import encoded

from .caller import Caller
from .clips import Clip, Samples

Figures = dict[str, list[float]]


def _add(figures: Figures, name: str, ms: float | None) -> None:
    figures.setdefault(name, [])
    if ms is not None:
        figures[name].append(ms)


async def _talking(caller: Caller) -> tuple[float, str]:
    """Let the agent talk for a while; return the time, and the turn."""
    loop = asyncio.get_running_loop()
    at = loop.time()
    await caller.ask("talk")
    assert await caller.event("audio.delta", at, 10) is not None, "the agent does not speak"
    await asyncio.sleep(1.2 + 0.37 * (len(caller.events) % 3))
    return at, caller.loudspeaker.turn_id


async def _quiet(caller: Caller, after: float) -> None:
    """Wait for the end of the answer, and then a second."""
    ended = await caller.event("turn.ended", after, 15, status="completed")
    assert ended is not None, "no answer"
    await asyncio.sleep(0.8)


async def barge_in(caller: Caller, clip: Clip, figures: Figures) -> None:
    """Talk while the agent talks."""
    _, turn_id = await _talking(caller)
    speaker = caller.loudspeaker
    began = await caller.say(clip.sound)
    onset = began + clip.onset_s
    held = await caller.event("turn.held", began, 4, turn_id=turn_id)
    stopped = speaker.silent_at
    ended = await caller.event("turn.ended", began, 6, turn_id=turn_id)
    _add(figures, "barge-in missed", None)
    if held is None or ended is None or stopped is None:
        _add(figures, "barge-in missed", 1.0)
        await caller.ask("stop")
    else:
        _add(figures, "onset → last sound out", 1000 * (stopped - onset))
        _add(figures, "onset → turn.ended", 1000 * (ended - onset))
        _check_heard(caller, turn_id, caller.played_ms[turn_id], figures)
    await _quiet(caller, began)


def _check_heard(caller: Caller, turn_id: str, played_ms: float, figures: Figures) -> None:
    """Compare the server's heard text with the played sound."""
    spans, heard = [], None
    for _, event in caller.events:
        if event.get("turn_id") == turn_id:
            if event["type"] == "audio.delta":
                spans.append(event)
            elif event["type"] == "turn.ended":
                heard = event["heard"]
    assert heard is not None
    whole = [span.get("text") or "" for span in spans if span["start_ms"] + span["duration_ms"] <= played_ms]
    _add(figures, "heard: error", abs(heard["audio_ms"] - played_ms))
    said, counted = "".join(whole).split(), heard["text"].split()
    _add(figures, "heard: words wrong", float(abs(len(said) - len(counted))))
    _add(figures, "thrown away", sum(span["duration_ms"] for span in spans) - played_ms)


async def answer(caller: Caller, clip: Clip, figures: Figures) -> None:
    """Talk into silence, and wait for the answer."""
    began = await caller.say(clip.sound)
    end = began + clip.end_s
    started = await caller.event("speech.started", began, 5)
    stopped = await caller.event("speech.stopped", began, 15)
    done = await caller.event("transcript.done", began, 15)
    sound = await caller.event("audio.delta", began, 15)
    _add(figures, "onset → speech.started", started and 1000 * (started - began - clip.onset_s))
    _add(figures, "end of speech → speech.stopped", stopped and 1000 * (stopped - end))
    _add(figures, "end of speech → transcript.done", done and 1000 * (done - end))
    _add(figures, "end of speech → first sound", sound and 1000 * (sound - end))
    faint = began + clip.faint_end_s
    _add(figures, "end of the last faint sound → first sound", sound and 1000 * (sound - faint))
    if sound is not None:
        await _quiet(caller, began)


async def backchannel(caller: Caller, clip: Clip, figures: Figures) -> None:
    """Cough or agree while the agent talks; it goes on."""
    _, turn_id = await _talking(caller)
    began = await caller.say(clip.sound)
    held = await caller.event("turn.held", began, 1.5, turn_id=turn_id)
    _add(figures, "ended the turn", None)
    if held is None:
        _add(figures, "not held at all", 1.0)
    else:
        resumed = await caller.event("turn.resumed", held, 3, turn_id=turn_id)
        ended = await caller.event("turn.ended", began, 0.5, turn_id=turn_id)
        if ended is not None or resumed is None:
            _add(figures, "ended the turn", 1.0)
        else:
            _add(figures, "held → resumed", 1000 * (resumed - held))
    asked = await caller.event("input.accepted", began, 1.5)
    _add(figures, "asked for a turn", 1.0 if asked is not None else None)
    spans = [event for _, event in caller.events if event["type"] == "audio.delta"]
    spans = [span for span in spans if span["turn_id"] == turn_id]
    gaps = [b["start_ms"] - a["start_ms"] - a["duration_ms"] for a, b in pairwise(spans)]
    _add(figures, "samples lost (ms)", float(sum(map(abs, gaps))))
    at = asyncio.get_running_loop().time()
    await caller.ask("stop")
    await _quiet(caller, at)


def false_starts(detector: Detector, sound: Samples) -> int:
    """Return how often the floor takes a sound for the start of speech."""
    floor, state, starts = Floor(Rules()), detector.open(), 0
    size = detector.frame_samples
    for end in range(size, len(sound) + 1, size):
        probability = detector.speech([(state, sound[end - size : end])])[0]
        for fact in floor.frame(end, probability, lambda: False):
            starts += fact is Fact.ONSET
            floor.decide(fact)
    return starts


class _Owner:
    """Owner of many ears that notes when each result came."""

    def __init__(self) -> None:
        self.late: list[float] = []

    def frames(self, ear: Ear, heard: Any) -> None:
        """Take nothing."""

    def was_cancelled(self, request: int) -> bool:
        return True

    def answered(self, command: Any, given: Any) -> None:
        """Take nothing."""

    def failed(self, command: Any) -> None:
        """Take nothing."""

    def heard(self, utterance: int, sound: Any) -> None:
        """Take nothing."""

    def partly(self, command: Any, text: str) -> None:
        """Take nothing."""


def listening_load(make: Callable[[], Detector], sessions: int, sound: Samples, seconds: float) -> Figures:
    """Let sessions talk at once in real time; return decisions and load.

    The piece that completes a frame is the last before its result, so the decision's delay is the time from
    that piece to the result.
    """
    done = threading.Event()
    thread = DetectorThread(make(), done.set)
    owner = _Owner()
    audio = AudioFormat(encoding="pcm16", rate=RATE)
    ears = [thread.open(owner, audio, 0, 0.35) for _ in range(sessions)]
    for ear in ears:
        ear.attentive = True
    pcm = encoded(np.tile(sound, int(seconds * RATE / len(sound)) + 2))
    piece, sent = int(RATE * 0.02) * 2, dict.fromkeys(ears, 0)
    given: dict[tuple[Ear, int], float] = {}
    delays: list[float] = []

    def collect() -> None:
        while thread.results:
            result = thread.results.popleft()
            if isinstance(result, Heard):
                delays.append(1000 * (time.perf_counter() - given.pop((result.ear, result.end))))

    began, cpu = time.perf_counter(), time.process_time()
    for number in range(int(seconds / 0.02)):
        for place, ear in enumerate(ears):
            due = began + 0.02 * (number + place / sessions)
            if (wait := due - time.perf_counter()) > 0:
                if done.wait(wait):
                    done.clear()
                    collect()
                if (wait := due - time.perf_counter()) > 0:
                    time.sleep(wait)
            before, after = sent[ear] // 512, (sent[ear] + 320) // 512
            sent[ear] += 320
            if after > before:
                given[ear, after * 512] = time.perf_counter()
            start = number * piece
            thread.take(ear, pcm[start : start + piece], sent[ear] - RATE)
    time.sleep(0.1)
    collect()
    share = (time.process_time() - cpu) / (time.perf_counter() - began)
    thread.stop()
    return {
        "decision": delays,
        "share of a core": [100 * share],
        "frames not looked at": [thread.dropped_frames],
    }
