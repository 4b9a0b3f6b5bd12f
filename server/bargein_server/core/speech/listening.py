"""Ear of a session: from input audio to speech, transcripts and inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bargein_protocol import (
    AudioFormat,
    InputAudio,
    InputClear,
    InputCommit,
    InputId,
    SpeechStarted,
    SpeechStopped,
    TurnId,
)
from bargein_protocol.errors import BAD_EVENT, FLOODED, NO_SPEECH, UNSUPPORTED, UPSTREAM

from .. import CloseConnection, Judge, ReportFrames, StartListening, StopListening, TakeAudio, Transcribe
from ..liveness import Liveness
from ..output_pump import OutputPump
from ..requests import Requests
from ..sequencer import Sequencer
from ..turn_scheduler import TurnScheduler
from .audio_clock import AudioClock
from .floor import (
    CLOCK_RATE,
    FRAME_SAMPLES,
    SAMPLES_PER_MS,
    Decision,
    Fact,
    Floor,
    Frame,
    Rules,
    State,
    never,
)
from .held_turn import HeldTurn
from .inputs import SpokenInputs
from .partials import Partials
from .recognitions import Recognitions, Utterance
from .words import Transcript, is_backchannel, is_speech

_NO_INPUT = (
    "this connection has no input audio: ask for it in session.open, in a format that the answer names"
)
UNSEEN = FRAME_SAMPLES + 10 * SAMPLES_PER_MS
"""Newest sound that a detector may not have seen: less than a frame, and the delay of a resampler."""
COMPLETE = 0.5
"""Probability from which a judged utterance is complete."""


class Listening:
    """Ear of one session.

    The host calls `frames`, `transcribed`, `failed` and `judged` through `SessionHost.act`: the time comes
    last, and frames and commands are drained afterwards.

    Attributes:
        clock: The audio clock.
        floor: The floor; None while nothing is detected.
        format: Format of the input; None while no client sends audio.
        partials: Words of speech that goes on.
        is_echo: Set by the host: returns whether the microphone's sound between two positions is the
            agent's own voice. It is called when a turn is about to be held, and must return within 1 ms.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        turns: TurnScheduler,
        requests: Requests,
        liveness: Liveness,
        output: OutputPump,
        has_judge: bool,
    ) -> None:
        self._sequencer = sequencer
        self._turns = turns
        self._requests = requests
        self._liveness = liveness
        self._output = output
        self._has_judge = has_judge
        self.clock = AudioClock()
        self.format: AudioFormat | None = None
        self.floor: Floor | None = None
        self.is_echo: Callable[[int, int], bool] = never
        self._rules = Rules()
        self._from = 0  # sound before it is forgotten
        self._numbers = 0
        self._utterance: Utterance | None = None
        self._recognitions = Recognitions()
        self.partials = Partials(sequencer, turns, output, self._recognitions)
        self._inputs = SpokenInputs(sequencer, requests, turns)
        self._awaited: Utterance | None = None
        self._held = HeldTurn(sequencer, turns)
        self._commits: dict[InputId, int] = {}  # of sound that the detector has not seen yet, by its end

    # --- the client ------------------------------------------------------------------------------

    def start(self, audio_format: AudioFormat, rules: Rules, now: float) -> None:
        """Begin to listen to a client that has just attached."""
        self.stop(now)
        self.format, self._rules, self.partials.every = audio_format, rules, rules.partial
        self.clock.start(audio_format, now)
        at = self._from = self.clock.position
        self.floor = Floor(rules, at) if rules.detect else None
        self._turns.commands.append(StartListening(audio_format, at, rules.detect))

    def stop(self, now: float) -> None:
        """Stop listening, because the client is gone; drop unfinished speech."""
        if self.format is None:
            return
        self._begin(now)
        self._decide(Fact.CLEAR)
        for input_id in self._commits:
            self._requests.reject(input_id, NO_SPEECH)
        self._commits.clear()
        self.format = self.floor = None
        self._turns.commands.append(StopListening())

    def receive(self, event: InputAudio | InputCommit | InputClear, now: float) -> None:
        """Take an event of the client."""
        if self.format is None:
            self._requests.error(UNSUPPORTED, _NO_INPUT, getattr(event, "id", None))
        elif isinstance(event, InputAudio):
            self._take(event.audio, now)
        elif isinstance(event, InputCommit):
            self._take_commit(event.id)
        else:
            self._from = self.clock.position
            self._decide(Fact.CLEAR)

    def client_decided(self, turn_id: TurnId) -> None:
        """Record that the client holds or resumes a turn itself."""
        utterance = self._utterance or self._awaited
        if turn_id == self._held.id or (utterance is not None and utterance.turn == turn_id):
            self._held.id = None
            self._decide(Fact.CLIENT_DECIDED)

    # --- the host --------------------------------------------------------------------------------

    @property
    def keep_from(self) -> int:
        """Position from which sound may still be asked for.

        Without speech it is the last second; the host drops older sound.
        """
        if self._utterance is not None:
            return self._utterance.start
        if self.format is not None and self.floor is None:
            return max(self._from, self.clock.position - self._rules.utterance)
        return max(0, self.clock.position - CLOCK_RATE)

    def frames(self, frames: Sequence[Frame], now: float) -> None:
        """Take the detector's results, in order."""
        floor = self.floor
        if floor is None:
            return
        self._turns.now = now
        for frame in frames:
            if frame.end <= floor.position:
                continue
            self._check_held()
            probability = frame.probability if frame.end > self._from else 0.0
            for fact in floor.frame(frame.end, probability, self._sounds, self.is_echo):
                self._decide(fact)
            if self._commits:
                self._carry_out_commits(floor)
        self._turns.commands += self.partials.due(self._utterance, floor)
        self._settled()

    def transcribed(self, request: Transcribe, transcript: Transcript, now: float) -> None:
        """Take the transcript that a request asked for."""
        utterance = self._recognitions.transcribed(request)
        if utterance is None or self._requests.closed:
            return
        self._begin(now)
        self._check_held()
        if request.quick:
            utterance.quick = transcript
        else:
            utterance.transcript = transcript
        self._give_verdict(utterance, transcript)
        if not request.quick:
            if utterance.stopped:
                self._inputs.conclude(utterance, self._rules)
            elif utterance.complete and utterance is self._utterance:
                self._decide(Fact.STOP)
        self._settled()

    def failed(self, request: Transcribe, now: float) -> None:
        """Record that a request gets no transcript: too late, or a failure."""
        utterance = self._recognitions.transcribed(request)
        if utterance is None or self._requests.closed:
            return
        self._begin(now)
        self._check_held()
        if utterance is self._utterance or utterance is self._awaited:
            if self.floor is not None:
                self.floor.unanswered()
            self._decide(Fact.NOT_MEANT)
        if not request.quick:
            utterance.covered = 0
        if utterance.input_id is not None and utterance.stopped:
            self._requests.reject(utterance.input_id, UPSTREAM)
        elif request.quick or utterance.stopped:
            self._requests.error(UPSTREAM, "the speech could not be transcribed", None)
        self._settled()

    def judged(self, request: Judge, complete: float, now: float) -> None:
        """Take the probability that an utterance is complete."""
        utterance = self._recognitions.judged(request)
        if utterance is None or utterance is not self._utterance or complete < COMPLETE:
            return
        self._begin(now)
        utterance.complete = True
        if utterance.transcript is not None:
            self._decide(Fact.STOP)
        self._settled()

    # --- audio and commits -----------------------------------------------------------------------

    def _take(self, audio: bytes, now: float) -> None:
        clock = self.clock
        if (fault := clock.fault(audio)) is not None:
            self._requests.error(BAD_EVENT, fault, None)
        elif audio:
            at = clock.position
            if not clock.take(audio, now):
                self._turns.commands.append(CloseConnection(FLOODED))
                return
            self._turns.commands.append(TakeAudio(audio, at))
            if self.floor is None and clock.position - self._from >= self._rules.utterance:
                self._ask_for_all(None)

    def _take_commit(self, input_id: InputId) -> None:
        if input_id in self._commits or self._recognitions.has_commit(input_id):
            return  # a resend; the one answer follows
        if self.floor is None:
            self._ask_for_all(input_id)
        else:
            self._commits[input_id] = self.clock.position
            self._carry_out_commits(self.floor)
            if self._commits:
                self._turns.commands.append(ReportFrames())

    # --- decisions -------------------------------------------------------------------------------

    def _decide(self, fact: Fact) -> None:
        floor = self.floor
        if floor is None:
            if fact is Fact.CLEAR:
                self._from = self.clock.position
            return
        dismissed = floor.state is State.DISMISSED and not floor.went_on
        decisions = floor.decide(fact)
        if decisions:
            self._sequencer.settle()
        for decision in decisions:
            spoken_ms = (floor.position - floor.onset) // SAMPLES_PER_MS
            self._turns.observer.speech(decision.name.lower(), spoken_ms)
            _CARRY_OUT[decision](self, floor, dismissed)

    def _start(self, floor: Floor, dismissed: bool) -> None:
        self._liveness.heard_at = self._turns.now
        self._numbers += 1
        start = max(0, self._from, floor.onset - self._rules.prefix)
        self._utterance = Utterance(self._numbers, start)
        self._utterance.turn = self._held.id  # by the utterance before, which waits for its words
        self._sequencer.number(SpeechStarted(at_ms=floor.onset // SAMPLES_PER_MS))

    def _hold(self, floor: Floor, dismissed: bool) -> None:
        assert self._utterance is not None
        self._utterance.turn = self._held.hold()

    def _ask(self, floor: Floor, dismissed: bool) -> None:
        assert self._utterance is not None
        self._request(self._utterance, quick=True)

    def _resume(self, floor: Floor, dismissed: bool) -> None:
        self._awaited = None
        self._held.resume()

    def _end(self, floor: Floor, dismissed: bool) -> None:
        utterance = self._utterance or self._awaited
        self._awaited = None
        if utterance is not None:
            self._held.end(utterance.turn)
            utterance.turn = None

    def _transcribe(self, floor: Floor, dismissed: bool) -> None:
        utterance = self._utterance
        assert utterance is not None
        self._request(utterance, quick=False)
        if self._has_judge:
            self._turns.commands += self._recognitions.judge(utterance, floor.position)

    def _stopped(self, floor: Floor, dismissed: bool) -> None:
        self._sequencer.number(SpeechStopped(at_ms=floor.last_voiced // SAMPLES_PER_MS))

    def _commit(self, floor: Floor, dismissed: bool) -> None:
        utterance, self._utterance = self._utterance, None
        assert utterance is not None
        utterance.stopped = True
        self._from = floor.position
        concluded = dismissed and utterance.quick is not None and utterance.input_id is None
        self._turns.commands += self._recognitions.stop(utterance, dropped=concluded)
        if floor.state is State.AWAITING:
            self._awaited = utterance
        if concluded:
            utterance.transcript = utterance.quick
            self._inputs.conclude(utterance, self._rules)
        elif utterance.covered < floor.last_voiced:
            self._request(utterance, quick=False)
        elif utterance.transcript is not None:
            self._give_verdict(utterance, utterance.transcript)
            self._inputs.conclude(utterance, self._rules)

    def _drop(self, floor: Floor, dismissed: bool) -> None:
        utterance, self._utterance = self._utterance, None
        if utterance is not None:
            self._turns.commands += self._recognitions.stop(utterance, dropped=True)

    # --- speech ----------------------------------------------------------------------------------

    def _give_verdict(self, utterance: Utterance, transcript: Transcript) -> None:
        """Let the words of an utterance decide on the turn that it held."""
        if self.floor is None or utterance.turn is None:
            return
        is_meant = is_speech(transcript) and not is_backchannel(transcript, self._rules.language)
        if utterance is self._utterance or utterance is self._awaited:
            self._decide(Fact.WORDS if is_meant else Fact.NOT_MEANT)
        elif is_meant and self._held.id == utterance.turn:  # newer speech has the floor meanwhile
            self._decide(Fact.WORDS)

    def _ask_for_all(self, input_id: InputId | None) -> None:
        """Ask for a turn with all sound since the last one: push to talk."""
        start, self._from = self._from, self.clock.position
        if start == self._from:
            if input_id is not None:
                self._requests.reject(input_id, NO_SPEECH)
            return
        self._numbers += 1
        utterance = Utterance(self._numbers, start, input_id=input_id, stopped=True)
        self._request(utterance, quick=False)

    def _carry_out_commits(self, floor: Floor) -> None:
        """Commit as soon as the detector has seen all sound before the commit."""
        seen = floor.position + UNSEEN
        due = [input_id for input_id, end in self._commits.items() if seen >= end]
        for input_id in due:
            end = self._commits.pop(input_id)
            if self._utterance is None:
                self._requests.reject(input_id, NO_SPEECH)
            else:
                self._utterance.input_id = input_id
                self._decide(Fact.STOP)
            self._from = max(self._from, end)  # the rest of it begins no new speech

    def _request(self, utterance: Utterance, *, quick: bool) -> None:
        """Ask for the transcript of an utterance so far, in place of the last."""
        floor = self.floor
        end = self.clock.position if floor is None else floor.position
        if not quick:
            utterance.covered = end if floor is None else floor.last_voiced
        self._turns.commands += self._recognitions.transcribe(utterance, end, quick=quick)

    def _sounds(self) -> bool:
        return self._rules.interrupt and self._held.sounds()

    def _check_held(self) -> None:
        if (fact := self._held.news()) is not None:
            self._decide(fact)

    # --- steps -----------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        self._turns.now = now
        self._sequencer.settle()

    def _settled(self) -> None:
        if not self._sequencer.attached:
            self._output.drain_to_log()


_CARRY_OUT: dict[Decision, Callable[[Listening, Floor, bool], None]] = {
    Decision.START: Listening._start,
    Decision.HOLD: Listening._hold,
    Decision.ASK: Listening._ask,
    Decision.RESUME: Listening._resume,
    Decision.END: Listening._end,
    Decision.TRANSCRIBE: Listening._transcribe,
    Decision.STOPPED: Listening._stopped,
    Decision.COMMIT: Listening._commit,
    Decision.DROP: Listening._drop,
}
