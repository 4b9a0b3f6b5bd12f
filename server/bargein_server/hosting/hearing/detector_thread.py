"""Thread that decodes all sessions' sound and runs the detector.

A frame of each session at a time and in order, as many sessions in one call as have one. A thread for each
session, or a job for each frame, would fall behind at a hundred sessions; the event loop would be late.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from bargein_protocol import AudioFormat

from ...core import Judge, Transcribe
from ...core.speech.words import Transcript
from ...guard.limits import RareLog
from ...voice.interfaces import RATE, Detector
from ...voice.sound import Resampler, decoded, encoding_named
from .sound_ring import SoundRing

if TYPE_CHECKING:
    from ...voice.interfaces import Samples

BEHIND_S = 0.5
"""Time that a frame may wait for the detector; of a quiet session, older ones are not looked at."""

MAX_BATCH = 64
_QUIET_POWER = 10 ** (-70 / 10)
_QUIET_S = 2.0
_REPORT_S = 0.25
# A wake-up costs more than a frame: with many ears, the frames of a few milliseconds are taken together.
_GATHER_S, _GATHER_EARS = 0.003, 8

log = RareLog(logging.getLogger("bargein.voice"))


class Owner(Protocol):
    """Ear of a session, which gets the results."""

    def frames(self, ear: Ear, heard: Sequence[Heard]) -> None:
        """Take results, in order."""
        ...

    def was_cancelled(self, request: int) -> bool:
        """Return whether a request was cancelled before its sound; ask once."""
        ...

    def answered(self, command: Transcribe | Judge, answer: Transcript | float) -> None:
        """Take the answer to a command."""
        ...

    def failed(self, command: Transcribe | Judge) -> None:
        """Record that a command gets no answer."""
        ...

    def heard(self, utterance: int, sound: Samples) -> None:
        """Keep the sound of an utterance."""
        ...

    def partly(self, command: Transcribe, text: str) -> None:
        """Take the words so far of a command whose answer follows."""
        ...


class Ear:
    """Ear of one connection, the thread's but for `attentive` and `closed`.

    Args:
        owner: Gets the results.
        audio_format: Format of its sound.
        at: Position of the first sample.
        state: The detector's state; None without detection.
        release: Probability below which a frame is silence.

    Attributes:
        attentive: Whether each frame counts: somebody speaks, or may have begun to.
        closed: Whether nobody wants its results any more.
    """

    def __init__(
        self, owner: Owner, audio_format: AudioFormat, at: int, state: object | None, release: float
    ) -> None:
        self.owner = owner
        self.attentive = False
        self.closed = False
        self.release = release
        self.state = state
        self.ring = SoundRing(at)
        self.frames: deque[tuple[int, Samples, float]] = deque()
        self.rest: list[Samples] = []
        self.rest_length = 0
        self.framed = at
        self.quiet_frames = 0
        self.unreported = 0
        self.reports_all = False
        self._encoding = encoding_named(audio_format.encoding)
        self._resampler = Resampler(audio_format.rate, RATE)

    def take(self, audio: bytes, keep_from: int, came_at: float, frame_samples: int) -> None:
        """Append sound to the ring, and cut it into frames."""
        sound = self._resampler.resampled(decoded(audio, self._encoding))
        self.ring.append(sound)
        self.ring.forget(keep_from)
        if self.state is None:
            return
        self.rest.append(sound)
        self.rest_length += len(sound)
        if self.rest_length >= frame_samples:
            import numpy

            whole = numpy.concatenate(self.rest)
            count = len(whole) // frame_samples
            for number in range(count):
                self.framed += frame_samples
                frame = whole[number * frame_samples :][:frame_samples]
                self.frames.append((self.framed, frame, came_at))
            self.rest = [whole[count * frame_samples :]]
            self.rest_length = len(self.rest[0])


class Heard(Struct, gc=False):
    """Result of the detector for one frame.

    Args:
        ear: The ear.
        end: Position after the frame.
        probability: Probability of speech.
    """

    ear: Ear
    end: int
    probability: float


class Cut(Struct, gc=False):
    """Sound that a command asked for.

    Args:
        ear: The ear.
        command: The command.
        sound: The sound.
    """

    ear: Ear
    command: Transcribe | Judge
    sound: Samples


_Item = tuple[Ear, bytes, int, float] | tuple[Ear, Transcribe | Judge] | tuple[Ear] | None


class DetectorThread:
    """The thread; its methods are called in the event loop.

    Args:
        detector: The detector.
        deliver: Called in the thread when there are results and `results` was empty before.

    Attributes:
        results: Results in order, taken by the event loop.
        dropped_frames: Frames that were not looked at, because the thread was behind.
        ears: Number of ears.
    """

    def __init__(self, detector: Detector, deliver: Callable[[], None]) -> None:
        self.results: deque[Heard | Cut] = deque()
        self.dropped_frames = 0
        self._behind_s = self._round_at = 0.0
        self.ears = 0
        self._detector = detector
        self._deliver = deliver
        self._frame_s = detector.frame_samples / RATE
        self._inbox: deque[_Item] = deque()
        self._busy: dict[Ear, None] = {}
        self._wake = threading.Event()
        self._awake = False
        self._thread: threading.Thread | None = None

    @property
    def behind_s(self) -> float:
        """Longest wait of a frame in the last round, in seconds; 0 if long ago."""
        is_idle = not self._awake and time.perf_counter() - self._round_at > _REPORT_S
        return 0.0 if is_idle else self._behind_s

    def open(self, owner: Owner, audio_format: AudioFormat, at: int, release: float | None) -> Ear:
        """Return a new ear; None as `release` makes one without detection."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="detector of speech", daemon=True)
            self._thread.start()
        self.ears += 1
        state = None if release is None else self._detector.open()
        return Ear(owner, audio_format, at, state, release or 0.0)

    def close(self, ear: Ear) -> None:
        """Drop an ear and its waiting sound; transcriptions still come."""
        if not ear.closed:
            ear.closed = True
            self.ears -= 1

    def take(self, ear: Ear, audio: bytes, keep_from: int) -> None:
        """Pass sound on."""
        self._put((ear, audio, keep_from, time.perf_counter()))

    def cut(self, ear: Ear, command: Transcribe | Judge) -> None:
        """Ask for a copy of the sound that a command names; it comes as a `Cut`."""
        self._put((ear, command))

    def report(self, ear: Ear) -> None:
        """Ask for the results of all sound up to now, also of silence."""
        self._put((ear,))

    def stop(self) -> None:
        """Let the thread end."""
        if self._thread is not None:
            self._put(None)

    def _put(self, item: _Item) -> None:
        self._inbox.append(item)
        if not self._awake:
            self._wake.set()

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._awake = False
            if not self._inbox:
                self._wake.wait()
            self._awake = True
            self._wake.clear()
            if self.ears > _GATHER_EARS:
                time.sleep(_GATHER_S)
            while self._inbox or self._busy:
                if not self._take_inbox():
                    return
                self._round()

    def _take_inbox(self) -> bool:
        """Take the waiting sound; return False when the thread is to end."""
        for _ in range(len(self._inbox)):
            item = self._inbox.popleft()
            if item is None:
                return False
            if len(item) == 4:
                ear, audio, keep_from, came_at = item
                if not ear.closed:
                    ear.take(audio, keep_from, came_at, self._detector.frame_samples)
                    if ear.frames:
                        self._busy[ear] = None
            elif len(item) == 1:
                self._report_all(item[0])
            else:
                ear, command = item
                self._report(Cut(ear, command, ear.ring.cut(command.start, command.end)))
        return True

    def _round(self) -> None:
        """Look at one frame of each session."""
        batch: list[tuple[Ear, int, Samples]] = []
        now, oldest = time.perf_counter(), inf
        for ear in list(self._busy):
            oldest = min(oldest, ear.frames[0][2])
            while len(ear.frames) > 1 and now - ear.frames[0][2] > BEHIND_S and not ear.attentive:
                ear.frames.popleft()
                self.dropped_frames += 1
            end, frame, _ = ear.frames.popleft()
            if not ear.frames or ear.closed:
                del self._busy[ear]
            if self._is_silent(ear, frame):
                self._heard(ear, end, 0.0)
            else:
                batch.append((ear, end, frame))
        self._behind_s, self._round_at = now - oldest, now
        for start in range(0, len(batch), MAX_BATCH):
            part = batch[start : start + MAX_BATCH]
            try:
                found = self._detector.speech([(ear.state, frame) for ear, _, frame in part])
            except Exception as error:
                log.warning("the detector of speech failed: %s", type(error).__name__)
                found = [0.0] * len(part)
            for (ear, end, _), probability in zip(part, found, strict=True):
                self._heard(ear, end, probability)

    def _is_silent(self, ear: Ear, frame: Samples) -> bool:
        """Return whether a session was silent so long that it needs no detector."""
        if float(frame.dot(frame)) / len(frame) > _QUIET_POWER:
            if ear.quiet_frames * self._frame_s > _QUIET_S:
                ear.state = self._detector.open()  # the old one is of another time
            ear.quiet_frames = 0
            return False
        ear.quiet_frames += 1
        return ear.quiet_frames * self._frame_s > _QUIET_S

    def _heard(self, ear: Ear, end: int, probability: float) -> None:
        """Report a frame, unless it is further silence, which the floor infers."""
        ear.unreported += 1
        if ear.closed:
            return
        if probability >= ear.release:
            ear.attentive = True
        if ear.attentive or ear.reports_all or ear.unreported * self._frame_s >= _REPORT_S:
            ear.unreported = 0
            ear.reports_all = ear.reports_all and bool(ear.frames)
            self._report(Heard(ear, end, probability))

    def _report_all(self, ear: Ear) -> None:
        if ear.frames:
            ear.reports_all = True
        elif ear.unreported and not ear.closed:
            ear.unreported = 0
            self._report(Heard(ear, ear.framed, 0.0))

    def _report(self, result: Heard | Cut) -> None:
        self.results.append(result)
        if len(self.results) == 1:
            self._deliver()
