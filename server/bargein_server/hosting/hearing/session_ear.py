"""Ear of one session, on the side of the event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, TypeVarTuple

from bargein_protocol import AudioFormat, InputId

from ...core import (
    CancelRecognition,
    Judge,
    Recognition,
    ReportFrames,
    SpokenInput,
    StartListening,
    StopListening,
    TakeAudio,
    Transcribe,
)
from ...core.session import Session
from ...core.speech.floor import CLOCK_RATE, Frame, State
from ...core.speech.listening import Listening
from ...core.speech.words import Transcript
from ...voice.sound import encoded
from .detector_thread import DetectorThread, Ear, Heard, Owner
from .echo import MICROPHONE, EchoCheck

if TYPE_CHECKING:
    from ...voice.interfaces import Samples

KEPT_SOUNDS = 2
"""Utterances whose sound is kept; a turn reads it as it begins."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def drop_oldest(kept: dict[Any, Samples]) -> None:
    """Keep the newest sounds."""
    while len(kept) > KEPT_SOUNDS:
        del kept[next(iter(kept))]


class HearingHost(Protocol):
    """The parts of a session's host that its ear uses."""

    core: Session

    def act(self, ask: Callable[[*Ts, float], T], *args: *Ts) -> T:
        """Call the core, then write its frames and carry out its commands."""
        ...


class ServerEars(Protocol):
    """The parts of a server's ears that a session's ear uses."""

    thread: DetectorThread
    echoes: int

    def release(self) -> None:
        """Release the place of a session."""
        ...

    def forget(self, ear: Owner) -> None:
        """Drop the dictations of a session."""
        ...

    def cancel(self, ear: Owner, request: int) -> bool:
        """Cancel a recognition; return False if it has not begun."""
        ...


class SessionEar:
    """Ear of one session.

    Args:
        host: Host of the session.
        ears: Ears of the server.
    """

    def __init__(self, host: HearingHost, ears: ServerEars) -> None:
        self._host = host
        self._ears = ears
        self._ear: Ear | None = None
        self._asked: set[int] = set()
        self._echo: EchoCheck | None = None
        self._utterances: dict[int, Samples] = {}
        self._sounds: dict[InputId, Samples] = {}

    def carry_out(self, command: Recognition) -> None:
        """Carry out a command of the core."""
        ear, thread = self._ear, self._ears.thread
        match command:
            case TakeAudio(audio):
                listening = self._host.core.audio.listening
                if ear is not None and listening is not None:
                    thread.take(ear, audio, self._keep_from(listening))
            case Transcribe() | Judge():
                if ear is not None:
                    self._asked.add(command.request)
                    thread.cut(ear, command)
            case ReportFrames():
                if ear is not None:
                    thread.report(ear)
            case CancelRecognition(request):
                self._asked.discard(request)
                self._ears.cancel(self, request)
            case SpokenInput(input_id, utterance):
                if utterance in self._utterances:
                    self._sounds[input_id] = self._utterances.pop(utterance)
                    drop_oldest(self._sounds)
            case StartListening(audio_format, at, detect):
                self._start(audio_format, at, detect)
            case StopListening():
                self._stop()

    def _keep_from(self, listening: Listening) -> int:
        """Return the position from which sound may still be asked for.

        The detector may be behind the sound that came, after a burst on a slow line: what it has not seen
        is kept, with the sound before it.
        """
        floor, keep_from = listening.floor, listening.keep_from
        if floor is None:
            return keep_from
        return min(keep_from, max(0, floor.position - floor.rules.prefix - CLOCK_RATE))

    def _start(self, audio_format: AudioFormat, at: int, detect: bool) -> None:
        listening = self._host.core.audio.listening
        floor = listening.floor if listening is not None else None
        release = floor.rules.release if detect and floor is not None else None
        if listening is not None:
            listening.is_echo = self._is_echo
        self._echo = None
        self._ear = self._ears.thread.open(self, audio_format, at, release)

    def _stop(self) -> None:
        if self._ear is not None:
            self._ears.thread.close(self._ear)
            self._ears.release()
            self._ears.forget(self)
            self._ear = None

    def spoke(self, audio: bytes) -> None:
        """Remember sound that goes out to the client."""
        if self._ear is None:
            return
        if self._echo is None:
            output = self._host.core.audio.output
            if output is None:
                return
            self._echo = EchoCheck(output)
        self._echo.sent(audio)

    def _is_echo(self, start: int, end: int) -> bool:
        """Return whether the microphone has the agent's voice; before a hold."""
        if self._ear is None or self._echo is None:
            return False
        is_echo = self._echo.is_echo(self._ear.ring.cut(end - MICROPHONE, end))
        self._ears.echoes += is_echo
        return is_echo

    def frames(self, ear: Ear, heard: Sequence[Heard]) -> None:
        """Pass probabilities on to the core, in order."""
        listening = self._host.core.audio.listening
        if ear is not self._ear or listening is None:
            return
        self._host.act(listening.frames, [Frame(each.end, each.probability) for each in heard])
        floor = listening.floor
        # While nobody speaks, silent frames need not come.
        ear.attentive = floor is not None and (floor.state is not State.QUIET or floor.in_onset)

    def was_cancelled(self, request: int) -> bool:
        """Return whether a request was cancelled before its sound came."""
        return request not in self._asked

    def heard(self, utterance: int, sound: Samples) -> None:
        """Keep the sound of an utterance for a listening agent."""
        self._utterances.pop(utterance, None)
        self._utterances[utterance] = sound
        drop_oldest(self._utterances)

    def sound_of(self, input_id: InputId) -> bytes | None:
        """Return the sound of an input, PCM16 mono at 16 kHz; None if typed."""
        sound = self._sounds.get(input_id)
        return None if sound is None else encoded(sound)

    def answered(self, command: Transcribe | Judge, answer: Transcript | float) -> None:
        """Pass an answer on to the core."""
        self._asked.discard(command.request)
        listening = self._host.core.audio.listening
        if listening is None:
            return
        if isinstance(command, Judge):
            assert isinstance(answer, float)
            self._host.act(listening.judged, command, answer)
        else:
            assert isinstance(answer, Transcript)
            if command.partial:
                self._host.act(listening.partials.answered, command, answer.text)
            else:
                self._host.act(listening.transcribed, command, answer)

    def partly(self, command: Transcribe, text: str) -> None:
        """Pass words on whose transcript follows."""
        listening = self._host.core.audio.listening
        if listening is not None and not self.was_cancelled(command.request):
            self._host.act(listening.partials.answered, command, text)

    def failed(self, command: Transcribe | Judge) -> None:
        """Record that a command gets no answer; then silence decides."""
        self._asked.discard(command.request)
        listening = self._host.core.audio.listening
        if listening is not None and isinstance(command, Transcribe):
            self._host.act(listening.partials.failed if command.partial else listening.failed, command)
