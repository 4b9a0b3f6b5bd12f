"""Floor of a session: decides from speech whether a turn goes on.

The decisions are one table, `ROWS`: (state, fact) → (next state, decisions). Facts are counted from the
probabilities of speech, frame by frame; verdicts on the words come from outside. Its clock is the
audio: positions are samples of the audio clock, so a test is a list of numbers.

A turn is held early and ended late. A hold costs nothing, because it loses nothing, so two frames of speech
are enough for it. The end needs words, or so much speech that it cannot be a cough.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from msgspec import Struct

from bargein_protocol import TurnDetection

from ...settings import Settings

CLOCK_RATE = 16_000
"""Samples of the audio clock per second."""
SAMPLES_PER_MS = CLOCK_RATE // 1000
FRAME_SAMPLES = 512
"""Length of one frame of a detector, in samples of the audio clock."""

THRESHOLD = 0.5
HYSTERESIS = 0.15
LIKELY, CERTAIN = 0.35, 0.7
"""Shares of the way from the threshold to 1: two frames begin speech if they reach the first one in the
mean, a single one if it reaches the second."""
ENOUGH = 450 * SAMPLES_PER_MS
"""Speech after which its words are asked for."""
SHORT_PAUSE = 64 * SAMPLES_PER_MS
"""Silence after which the words of shorter speech are asked for."""
MORE = 96 * SAMPLES_PER_MS
"""Speech after a verdict from which the words are asked for again."""
LATE = 1800 * SAMPLES_PER_MS
"""Time after a hold at which a verdict is too late."""


class State(Enum):
    """State of the floor."""

    QUIET = "quiet"
    """The user does not speak."""
    SPEAKING = "speaking"
    """The user speaks, and no turn waits for a verdict."""
    UNDECIDED = "undecided"
    """The user speaks, and a turn is held."""
    DISMISSED = "dismissed"
    """The user speaks, and the turn goes on: these were no words for it."""
    LEFT = "left"
    """The user speaks, and the client has decided on the turn."""
    AWAITING = "awaiting"
    """The user has stopped, and the held turn waits for the words."""


class Fact(Enum):
    """Something that the floor decides on."""

    ONSET = "onset"
    """Speech has begun."""
    SOUNDS = "sounds"
    """A turn sounds while the user speaks."""
    ENOUGH = "enough"
    """There is enough speech to tell words from a cough."""
    WORDS = "words"
    """The words are meant for the agent."""
    NOT_MEANT = "not meant"
    """A cough, a hum, or words such as "okay"; or the words cannot be had."""
    SURE = "sure"
    """There is so much speech that it is meant, whatever the words are."""
    LATE = "late"
    """No verdict came in time, or the hold has ended by itself."""
    PAUSE = "pause"
    """A silence that may be the end of the speech."""
    STOP = "stop"
    """The speech is over."""
    CLEAR = "clear"
    """The client takes its speech back, or its line is lost."""
    TURN_OVER = "turn over"
    """The held turn has ended for another reason."""
    CLIENT_DECIDED = "client decided"
    """The client held or resumed the turn itself."""


class Decision(Enum):
    """Consequence of a fact; carried out in this order."""

    START = "number speech.started"
    HOLD = "hold the turn"
    ASK = "ask for the kind of the words"
    RESUME = "resume the turn"
    END = "end the turn"
    TRANSCRIBE = "ask for the transcript"
    STOPPED = "number speech.stopped"
    COMMIT = "ask for a turn"
    DROP = "forget the speech"


_S, _F, _D = State, Fact, Decision

ROWS: dict[tuple[State, Fact], tuple[State, tuple[Decision, ...]]] = {
    (_S.QUIET, _F.ONSET): (_S.SPEAKING, (_D.START,)),
    (_S.SPEAKING, _F.SOUNDS): (_S.UNDECIDED, (_D.HOLD,)),
    (_S.SPEAKING, _F.PAUSE): (_S.SPEAKING, (_D.TRANSCRIBE,)),
    (_S.SPEAKING, _F.STOP): (_S.QUIET, (_D.STOPPED, _D.COMMIT)),
    (_S.SPEAKING, _F.CLEAR): (_S.QUIET, (_D.STOPPED, _D.DROP)),
    (_S.UNDECIDED, _F.ENOUGH): (_S.UNDECIDED, (_D.ASK,)),
    (_S.UNDECIDED, _F.WORDS): (_S.SPEAKING, (_D.END,)),
    (_S.UNDECIDED, _F.SURE): (_S.SPEAKING, (_D.END,)),
    (_S.UNDECIDED, _F.NOT_MEANT): (_S.DISMISSED, (_D.RESUME,)),
    (_S.UNDECIDED, _F.LATE): (_S.DISMISSED, ()),  # the hold ends by itself
    (_S.UNDECIDED, _F.PAUSE): (_S.UNDECIDED, (_D.TRANSCRIBE,)),
    (_S.UNDECIDED, _F.STOP): (_S.AWAITING, (_D.STOPPED, _D.COMMIT)),
    (_S.UNDECIDED, _F.CLEAR): (_S.QUIET, (_D.RESUME, _D.STOPPED, _D.DROP)),
    (_S.UNDECIDED, _F.TURN_OVER): (_S.SPEAKING, ()),
    (_S.UNDECIDED, _F.CLIENT_DECIDED): (_S.LEFT, ()),
    # A resume is provisional: words or more speech still end the turn.
    (_S.DISMISSED, _F.WORDS): (_S.SPEAKING, (_D.END,)),
    (_S.DISMISSED, _F.SURE): (_S.SPEAKING, (_D.END,)),
    (_S.DISMISSED, _F.PAUSE): (_S.DISMISSED, (_D.TRANSCRIBE,)),
    (_S.DISMISSED, _F.STOP): (_S.QUIET, (_D.STOPPED, _D.COMMIT)),
    (_S.DISMISSED, _F.CLEAR): (_S.QUIET, (_D.STOPPED, _D.DROP)),
    (_S.DISMISSED, _F.CLIENT_DECIDED): (_S.LEFT, ()),
    (_S.LEFT, _F.PAUSE): (_S.LEFT, (_D.TRANSCRIBE,)),
    (_S.LEFT, _F.STOP): (_S.QUIET, (_D.STOPPED, _D.COMMIT)),
    (_S.LEFT, _F.CLEAR): (_S.QUIET, (_D.STOPPED, _D.DROP)),
    (_S.AWAITING, _F.ONSET): (_S.UNDECIDED, (_D.START,)),
    (_S.AWAITING, _F.WORDS): (_S.QUIET, (_D.END,)),
    (_S.AWAITING, _F.NOT_MEANT): (_S.QUIET, (_D.RESUME,)),
    (_S.AWAITING, _F.LATE): (_S.QUIET, ()),
    (_S.AWAITING, _F.CLEAR): (_S.QUIET, (_D.RESUME,)),
    (_S.AWAITING, _F.TURN_OVER): (_S.QUIET, ()),
    (_S.AWAITING, _F.CLIENT_DECIDED): (_S.QUIET, ()),
}
"""The table. A fact without a row changes nothing."""


class Frame(Struct, frozen=True):
    """Result of the detector for one frame.

    Args:
        end: Position after the frame. Frames that were left out, because the detector was behind, must
            have been silent.
        probability: Probability of speech.
    """

    end: int
    probability: float


class Rules(Struct, frozen=True):
    """Thresholds of one session, in samples of the audio clock.

    Args:
        detect: Whether the server detects speech; otherwise the client commits it.
        threshold: Probability from which a frame begins speech.
        release: Probability from which a frame continues it.
        certain: Probability from which a frame counts twice for an onset.
        likely: Mean of two frames from which they are an onset.
        start: Speech without a break that counts as an onset.
        sure: Speech that is meant, whatever the words are.
        pause: Silence after which the transcript is asked for.
        silence: Silence that ends the speech.
        prefix: Sound before the onset that is transcribed as well.
        utterance: Length at which speech is cut.
        create_turn: Whether the end of the speech asks for a turn.
        interrupt: Whether speech holds and ends turns.
        language: Language of the speech as a BCP 47 tag; empty for English.
        partial: Speech between two partial transcripts; 0 for none.
    """

    detect: bool = True
    threshold: float = THRESHOLD
    release: float = THRESHOLD - HYSTERESIS
    certain: float = THRESHOLD + CERTAIN * (1 - THRESHOLD)
    likely: float = THRESHOLD + LIKELY * (1 - THRESHOLD)
    start: int = 64 * SAMPLES_PER_MS
    sure: int = 900 * SAMPLES_PER_MS
    pause: int = 200 * SAMPLES_PER_MS
    silence: int = 500 * SAMPLES_PER_MS
    prefix: int = 300 * SAMPLES_PER_MS
    utterance: int = 60_000 * SAMPLES_PER_MS
    create_turn: bool = True
    interrupt: bool = True
    language: str = ""
    partial: int = 0


def rules_of(settings: Settings, asked: TurnDetection, language: str = "") -> Rules:
    """Return a session's rules, from the settings and the client's wishes."""
    threshold = THRESHOLD if asked.threshold is None else asked.threshold
    silence = _samples(settings.speech_silence_s, asked.silence_ms, 10_000)
    return Rules(
        detect=asked.type == "server",
        threshold=threshold,
        release=max(threshold - HYSTERESIS, min(threshold, 0.01)),
        certain=threshold + CERTAIN * (1 - threshold),
        likely=threshold + LIKELY * (1 - threshold),
        start=_samples(settings.speech_start_s),
        sure=_samples(settings.speech_sure_s),
        pause=min(_samples(settings.speech_judge_s), silence),
        silence=silence,
        prefix=_samples(settings.speech_prefix_s, asked.prefix_ms, 2_000),
        utterance=_samples(settings.utterance_s),
        create_turn=asked.create_turn,
        interrupt=asked.interrupt,
        language=language,
        partial=_samples(settings.speech_partial_s),
    )


def _samples(seconds: float, asked_ms: int | None = None, most_ms: int = 0) -> int:
    ms = round(seconds * 1000) if asked_ms is None else min(asked_ms, most_ms)
    return ms * SAMPLES_PER_MS


def never(start: int, end: int) -> bool:
    """Return False: no sound is an echo."""
    return False


class Floor:
    """Floor of one session.

    Attributes:
        rules: The thresholds.
        state: The state.
        position: Position after the last frame.
        onset: Position of the start of the speech.
        last_voiced: Position after the last frame of speech.
        voiced: Speech since the onset, in samples.
        echoes: Number of onsets that were the agent's own voice.
    """

    __slots__ = (
        "_asked", "_asked_at", "_before", "_counted", "_echo_at", "_held_at", "_paused", "_quiet", "_run",
        "echoes", "last_voiced", "onset", "position", "rules", "state", "voiced",
    )  # fmt: skip

    def __init__(self, rules: Rules, position: int = 0) -> None:
        self.rules = rules
        self.state = State.QUIET
        self.position = position
        self.echoes = 0
        self._held_at = 0
        self._forget(position)

    def _forget(self, position: int) -> None:
        self.onset = self.last_voiced = position
        self.voiced = self._run = self._counted = self._quiet = 0
        self._before = 0.0
        self._asked = self._paused = False
        self._asked_at = 0
        self._echo_at = 0

    @property
    def speaking(self) -> bool:
        """Whether speech has begun and has not ended."""
        return self.state is not State.QUIET and self.state is not State.AWAITING

    @property
    def in_onset(self) -> bool:
        """Whether the last frame may be the start of speech."""
        return self._run > 0 and not self.speaking

    def frame(
        self,
        end: int,
        probability: float,
        sounds: Callable[[], bool],
        is_echo: Callable[[int, int], bool] = never,
        length: int = FRAME_SAMPLES,
    ) -> list[Fact]:
        """Take a frame; return the facts that are due, in order, for `decide`.

        Args:
            end: Position after the frame. Frames between the last one and this one were silent.
            probability: Probability of speech in it.
            sounds: Returns whether a turn sounds that speech may hold.
            is_echo: Returns whether the sound between two positions is the agent's own voice.
            length: Samples of the frame.
        """
        rules, gap = self.rules, max(0, end - length - self.position)
        was_voiced = self.speaking and not self._quiet and not gap
        is_voiced = probability >= (rules.release if was_voiced else rules.threshold)
        self.position = end
        if not self.speaking:
            if not self._is_onset(probability, length, follows=not gap):
                return self._late()
            return self._begin(end, sounds, is_echo)
        if is_voiced:
            self.voiced += length
            self._quiet = 0
            self._paused = False
            self.last_voiced = end
        else:
            self._quiet += length + gap
        return self._facts(end, sounds)

    def _is_onset(self, probability: float, length: int, *, follows: bool) -> bool:
        """Return whether a frame, with those before it, is the start of speech.

        One frame that is certain says more than two that are hardly likely: music has many of those.
        """
        rules, before = self.rules, self._before if follows else 0.0
        self._before = probability
        if probability < rules.threshold:
            self._run = self._counted = 0
            return False
        if not follows:
            self._run = self._counted = 0
        is_certain = probability >= rules.certain
        self._run += length
        self._counted += 2 * length if is_certain else length
        return self._counted >= rules.start and (is_certain or before + probability >= 2 * rules.likely)

    def _begin(self, end: int, sounds: Callable[[], bool], is_echo: Callable[[int, int], bool]) -> list[Fact]:
        start = end - self._run
        is_sounding = self.state is State.QUIET and sounds()
        if is_sounding and end >= self._echo_at and is_echo(start, end):
            self.echoes += 1
            self._echo_at = end + SHORT_PAUSE
        if is_sounding and end < self._echo_at:
            return self._late()
        voiced = self._run
        self._forget(end)
        self.onset, self.voiced = start, voiced
        return [Fact.ONSET, Fact.SOUNDS] if is_sounding else [Fact.ONSET]

    def _facts(self, end: int, sounds: Callable[[], bool]) -> list[Fact]:
        rules, facts = self.rules, self._late()
        if self.state is State.SPEAKING and not self._quiet and sounds():
            facts.append(Fact.SOUNDS)
        is_enough = self.voiced >= ENOUGH or self._quiet >= SHORT_PAUSE
        if is_enough and self.state is State.UNDECIDED and not self._asked:
            self._asked, self._asked_at = True, self.last_voiced
            facts.append(Fact.ENOUGH)
        if self.voiced >= rules.sure:
            facts.append(Fact.SURE)
        if self._quiet >= rules.pause and not self._paused:
            self._paused = True
            if self.state is not State.DISMISSED or self.went_on:
                facts.append(Fact.PAUSE)
        if self._quiet >= rules.silence or end - self.onset >= rules.utterance:
            facts.append(Fact.STOP)
        return facts

    def _late(self) -> list[Fact]:
        waits = self.state is State.UNDECIDED or self.state is State.AWAITING
        return [Fact.LATE] if waits and self.position >= self._held_at + LATE else []

    @property
    def went_on(self) -> bool:
        """Whether there was more speech after the words were asked for."""
        return self.last_voiced >= self._asked_at + MORE

    def unanswered(self) -> None:
        """Record that the words were asked for in vain; the next pause asks again."""
        self._asked_at = 0

    def decide(self, fact: Fact) -> tuple[Decision, ...]:
        """Move the state by the table; return the decisions to carry out."""
        row = ROWS.get((self.state, fact))
        if row is None:
            return ()
        before, (self.state, decisions) = self.state, row
        if Decision.HOLD in decisions:
            self._held_at = self.position
        elif fact is Fact.LATE:
            self.unanswered()
        if not self.speaking and before is not self.state:
            self._run = self._counted = 0
        return decisions
