"""The detector's thread, the ring of sound, and the places of recognitions."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from bargein_protocol import AudioFormat
from bargein_server.core import Judge, Transcribe
from bargein_server.hosting.hearing.detector_thread import BEHIND_S, Cut, DetectorThread, Ear, Heard
from bargein_server.hosting.hearing.ears import Ears
from bargein_server.hosting.hearing.echo import EchoCheck
from bargein_server.hosting.hearing.recognition_queue import QueueFull, RecognitionQueue
from bargein_server.hosting.hearing.sound_ring import SoundRing
from bargein_server.settings import Settings
from bargein_server.voice.interfaces import RATE
from bargein_server.voice.sound import decoded, encoded
from fake_voice import FRAME, SPEECH, FakeDetector, babble, fake_parts, silence, spoken, words_in

PCM = AudioFormat(encoding="pcm16", rate=RATE)
FRAME_MS = FRAME * 1000 // RATE


class Owner:
    """Owner of ears that takes nothing itself."""

    def frames(self, ear: Ear, heard: Sequence[Heard]) -> None: ...

    def was_cancelled(self, request: int) -> bool:
        return False

    def answered(self, command: Transcribe | Judge, answer: Any) -> None: ...

    def failed(self, command: Transcribe | Judge) -> None: ...

    def heard(self, utterance: int, sound: Any) -> None: ...

    def partly(self, command: Transcribe, text: str) -> None: ...


class Running:
    """A detector's thread whose results a test awaits."""

    def __init__(self, detector: FakeDetector) -> None:
        self.news = threading.Event()
        self.thread = DetectorThread(detector, self.news.set)
        self.taken: list[Heard | Cut] = []

    def open(self, audio_format: AudioFormat = PCM, *, attentive: bool = True, detect: bool = True) -> Ear:
        """Return an ear."""
        ear = self.thread.open(Owner(), audio_format, 0, 0.35 if detect else None)
        ear.attentive = attentive
        return ear

    def results(self, count: int) -> list[Heard | Cut]:
        """Wait for results."""
        while len(self.taken) < count:
            assert self.news.wait(5), f"expected {count} results, got {len(self.taken)}"
            self.news.clear()
            while self.thread.results:
                self.taken.append(self.thread.results.popleft())
        found, self.taken = self.taken[:count], self.taken[count:]
        return found

    def heard(self, ear: Ear, count: int) -> list[tuple[int, float]]:
        """Wait for the frames of an ear; return ends and probabilities."""
        found = [result for result in self.results(count) if isinstance(result, Heard)]
        return [(each.end, each.probability) for each in found if each.ear is ear]


@contextmanager
def running(detector: FakeDetector | None = None) -> Iterator[Running]:
    """Run the thread."""
    it = Running(detector or FakeDetector())
    try:
        yield it
    finally:
        it.thread.stop()


def test_frames_come_in_order_at_their_positions() -> None:
    """However the sound is cut into pieces; the rest waits for more."""
    sound = silence(FRAME_MS) + spoken("word", 2 * FRAME_MS) + silence(16)
    with running() as it:
        ear = it.open()
        for start in range(0, len(sound), 300):
            it.thread.take(ear, sound[start : start + 300], 0)
        assert it.heard(ear, 3) == [(FRAME, 0.0), (2 * FRAME, SPEECH), (3 * FRAME, SPEECH)]


def test_a_batch_has_each_session_once() -> None:
    """The fake asserts that; each session gets its own results."""
    detector = FakeDetector()
    with running(detector) as it:
        loud, quiet = it.open(), it.open()
        gate = _block(it, detector)
        it.thread.take(loud, spoken("a", 4 * FRAME_MS), 0)
        it.thread.take(quiet, silence(4 * FRAME_MS), 0)
        gate.set()
        results = it.results(9)[1:]
        assert max(detector.batches) == 2
        for ear, probability in ((loud, SPEECH), (quiet, 0.0)):
            mine = [each for each in results if isinstance(each, Heard) and each.ear is ear]
            assert [(each.end, each.probability) for each in mine] == [
                (FRAME * number, probability) for number in (1, 2, 3, 4)
            ]


def _block(it: Running, detector: FakeDetector) -> threading.Event:
    """Keep the thread busy with one frame until the event is set."""
    gate, begun = threading.Event(), threading.Event()
    inner = detector.speech

    def slow(frames: Any) -> list[float]:
        begun.set()
        gate.wait(5)
        return inner(frames)

    detector.speech = slow  # type: ignore[method-assign]
    it.thread.take(it.open(), spoken("block", FRAME_MS), 0)
    assert begun.wait(5)
    detector.speech = inner  # type: ignore[method-assign]
    return gate


def test_a_thread_that_is_behind_drops_silence_and_never_speech() -> None:
    """The oldest frames of sessions in which nobody speaks; they are counted."""
    detector = FakeDetector()
    with running(detector) as it:
        speaking, quiet = it.open(), it.open(attentive=False)
        gate = _block(it, detector)
        for _ in range(40):
            it.thread.take(speaking, silence(FRAME_MS), 0)
            it.thread.take(quiet, silence(FRAME_MS), 0)
        time.sleep(BEHIND_S + 0.1)
        gate.set()
        assert len(it.heard(speaking, 1 + 40)) == 40
        assert it.thread.dropped_frames == 39
        assert it.thread.behind_s > BEHIND_S
        time.sleep(0.3)  # without sound there is no round that would say that it is over
        assert it.thread.behind_s == 0


async def test_a_session_comes_back_to_a_thread_that_is_behind() -> None:
    """Its user is in the middle of a call; only new ones are refused."""
    ears = Ears(fake_parts(), Settings(max_listeners=2), asyncio.get_running_loop())
    ears.thread._awake, ears.thread._behind_s = True, 2 * BEHIND_S
    assert [ears.support.admit(again) for again in (False, True, True, True)] == [False, True, True, False]


def test_quiet_sessions_report_four_times_a_second() -> None:
    """Missing frames are silent ones, so nothing else is needed; the first loud one comes at once."""
    with running() as it:
        ear = it.open(attentive=False)
        it.thread.take(ear, silence(1000) + spoken("a", 2 * FRAME_MS), 0)
        assert it.heard(ear, 4) == [
            (8 * FRAME, 0.0),
            (16 * FRAME, 0.0),
            (24 * FRAME, 0.0),
            (32 * FRAME, SPEECH),
        ]
        assert ear.attentive


def test_silence_that_was_left_out_is_reported_when_asked_for() -> None:
    """A commit waits for it, whether the frames were looked at before or not."""
    with running() as it:
        ear = it.open(attentive=False)
        it.thread.take(ear, silence(3 * FRAME_MS), 0)
        it.thread.report(ear)
        ends = [0]
        while ends[-1] < 3 * FRAME:
            ends += [end for end, _ in it.heard(ear, 1)]
        assert ends == sorted(set(ends))


def test_an_hour_of_silence_asks_no_detector() -> None:
    """After two seconds below -70 dBFS, until there is something to look at."""
    detector = FakeDetector()
    with running(detector) as it:
        ear = it.open()
        for _ in range(60):
            it.thread.take(ear, silence(1000), 1 << 60)
        results = it.heard(ear, 60_000 // FRAME_MS)
        assert len(detector.batches) == int(2.0 * RATE / FRAME)
        assert {probability for _, probability in results} == {0.0}
        it.thread.take(ear, spoken("hello", 100), 0)
        assert it.heard(ear, 3)[-1][1] == SPEECH
        assert len(ear.ring) <= RATE


def test_a_failing_detector_hears_nothing_and_the_thread_lives() -> None:
    """Sessions go on as in silence, and the log has the type of the error once."""
    detector = FakeDetector()
    with running(detector) as it:
        ear = it.open()
        detector.failing = True
        it.thread.take(ear, spoken("a", FRAME_MS), 0)
        assert it.heard(ear, 1) == [(FRAME, 0.0)]
        detector.failing = False
        it.thread.take(ear, spoken("a", FRAME_MS), 0)
        assert it.heard(ear, 1) == [(2 * FRAME, SPEECH)]


def test_sound_is_cut_behind_what_came_before() -> None:
    """A cut has all sound that was taken before it, without a detector too, in any format."""
    sound = silence(100) + spoken("it goes", 400)
    formats = (PCM, AudioFormat(encoding="pcm16", rate=48_000), AudioFormat(encoding="mulaw", rate=8_000))
    for audio_format in formats:
        with running() as it:
            ear = it.open(audio_format, detect=False)
            linear = decoded(sound, "pcm16")
            step = RATE // audio_format.rate or 1
            other = np.repeat(linear, audio_format.rate // RATE or 1)[::step]
            it.thread.take(ear, encoded(other, "mulaw" if step > 1 else "pcm16"), 0)
            it.thread.cut(ear, Transcribe(1, 1, 0, 8000, quick=False))
            (result,) = it.results(1)
            assert isinstance(result, Cut)
            assert 8000 - len(result.sound) <= 80
            if audio_format is PCM:
                assert words_in(result.sound) == "it goes"


def test_a_closed_ear_gets_no_results() -> None:
    """But what was asked for comes."""
    with running() as it:
        ear = it.open()
        it.thread.take(ear, spoken("so", 200), 0)
        it.thread.cut(ear, Transcribe(1, 1, 0, 3200, quick=False))
        it.thread.close(ear)
        it.thread.close(ear)
        found = it.results(1)
        while not isinstance(found[-1], Cut):
            found += it.results(1)
        assert it.thread.ears == 0


def test_a_ring_keeps_what_may_be_asked_for() -> None:
    """Positions count from its beginning; older sound is dropped by the piece."""
    ring = SoundRing(1000)
    for number in range(10):
        ring.append(np.full(100, number / 16, dtype=np.float32))
    ring.forget(1250)
    assert (ring.end, len(ring)) == (2000, 800)
    assert ring.cut(0, 1210).tolist() == [2 / 16] * 10
    assert ring.cut(1290, 1310).tolist() == [2 / 16] * 10 + [3 / 16] * 10
    assert len(ring.cut(1990, 5000)) == 10
    assert len(ring.cut(0, 900)) == 0


def test_the_agents_own_voice_is_told_from_the_users() -> None:
    """The same sound later and weaker is an echo, another one is not."""
    rng = np.random.default_rng(2)
    sent, user = babble(3.0, 1), babble(1.0, 2)
    check = EchoCheck(PCM)
    for start in range(0, len(sent), 1600):
        check.sent(encoded(sent[start : start + 1600]))
    heard = (0.05 * sent[-18_000:-6_000] + rng.normal(0, 0.0005, 12_000)).astype(np.float32)
    assert check.is_echo(heard)
    assert not check.is_echo(user)
    assert not check.is_echo(np.zeros(100, dtype=np.float32))
    assert not EchoCheck(PCM).is_echo(heard)


async def test_few_recognitions_run_and_some_wait() -> None:
    """The urgent ones go first, and beyond the bound none waits."""
    queue, order = RecognitionQueue(1), list[str]()
    gate = asyncio.Event()

    async def run(name: str, *, first: bool = False) -> None:
        async with queue.place(first=first):
            order.append(name)
            await gate.wait()

    tasks = [asyncio.create_task(run(str(number))) for number in range(9)]
    await asyncio.sleep(0)
    assert (queue.running, queue.waiting) == (1, 8)
    one_more = asyncio.create_task(run("too many"))
    await asyncio.sleep(0)
    assert one_more.done()
    assert isinstance(one_more.exception(), QueueFull)
    tasks.append(asyncio.create_task(run("urgent", first=True)))
    await asyncio.sleep(0)
    tasks[3].cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == ["0", "urgent", "1", "2", "4", "5", "6", "7", "8"]
    assert (queue.running, queue.waiting) == (0, 0)


async def test_a_place_that_was_given_to_a_cancelled_one_is_passed_on() -> None:
    """Both in one step."""
    queue = RecognitionQueue(1)

    async def run() -> None:
        async with queue.place(first=False):
            await asyncio.sleep(0)

    async with queue.place(first=False):
        waiting = asyncio.create_task(run())
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert queue.running == 0
    await run()


async def test_spare_work_never_waits_and_nothing_waits_for_it() -> None:
    """It is refused while a place is taken, and it takes none."""
    queue = RecognitionQueue(2)
    async with queue.spare():
        with pytest.raises(QueueFull):
            async with queue.spare():
                pass
        async with queue.place(first=True), queue.place(first=False):
            assert queue.running == 2
    async with queue.place(first=False):
        with pytest.raises(QueueFull):
            async with queue.spare():
                pass
    async with queue.spare():
        pass
