"""Who has the floor: tests are lists of probabilities, a frame of 32 ms each. There is no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bargein_protocol import TurnDetection
from bargein_server.core.speech.floor import (
    FRAME_SAMPLES,
    ROWS,
    SAMPLES_PER_MS,
    Decision,
    Fact,
    Floor,
    Rules,
    State,
    rules_of,
)
from bargein_server.settings import Settings
from golden_vectors import QUICK

FRAME_MS = 32
LOUD, QUIET, CERTAIN = [0.8], [0.0], [0.9]


class Conversation:
    """A floor, and what it decided at which frame."""

    def __init__(self, *, sounds: bool = False, echo: bool = False, **rules: object) -> None:
        self.floor = Floor(Rules(**rules))  # type: ignore[arg-type]
        self.sounds = sounds
        self.echo = echo
        self.decisions: list[tuple[int, Decision]] = []
        self._frames = 0

    def hear(self, probabilities: list[float]) -> Conversation:
        """Take frames."""
        for probability in probabilities:
            self._frames += 1
            end = self._frames * FRAME_SAMPLES
            for fact in self.floor.frame(end, probability, lambda: self.sounds, lambda *_: self.echo):
                self.tell(fact)
        return self

    def tell(self, fact: Fact) -> Conversation:
        """Take a fact, and do with the turn what was decided."""
        for decision in self.floor.decide(fact):
            self.decisions.append((self._frames * FRAME_MS, decision))
            if decision is Decision.HOLD or decision is Decision.END:
                self.sounds = False
            elif decision is Decision.RESUME:
                self.sounds = True
        return self

    def at(self, decision: Decision) -> list[int]:
        """Return the milliseconds at which something was decided."""
        return [ms for ms, decided in self.decisions if decided is decision]

    @property
    def order(self) -> list[str]:
        """Names of the decisions, in order."""
        return [decision.name for _, decision in self.decisions]


def test_two_frames_are_an_onset() -> None:
    """64 ms of speech, at once; one frame is none."""
    assert Conversation().hear(LOUD + QUIET + LOUD + QUIET * 30).order == []
    heard = Conversation().hear(QUIET * 10 + LOUD * 2)
    assert heard.decisions == [(12 * FRAME_MS, Decision.START)]
    assert heard.floor.onset == 10 * FRAME_SAMPLES


def test_a_certain_frame_is_an_onset() -> None:
    """The voice falls silent 32 ms earlier; a frame that is loud and not certain waits for the next one."""
    heard = Conversation(sounds=True).hear(QUIET * 10 + CERTAIN)
    assert heard.decisions == [(11 * FRAME_MS, Decision.START), (11 * FRAME_MS, Decision.HOLD)]
    assert Conversation().hear(QUIET + [0.84] + QUIET * 5).order == []
    assert Conversation(start=96 * SAMPLES_PER_MS).hear(CERTAIN * 2).at(Decision.START) == [64]


def test_frames_that_are_hardly_likely_are_no_onset() -> None:
    """Music has many of those; two in succession have to be likely in the mean."""
    assert Conversation().hear([0.6] * 50).order == []
    assert Conversation().hear([*QUIET, 0.6, 0.8]).at(Decision.START) == [96]
    assert Conversation().hear([0.8, 0.4, 0.8] + QUIET * 5).order == []
    rules = rules_of(Settings(), TurnDetection(threshold=0.8))
    assert [round(rules.likely, 2), round(rules.certain, 2)] == [0.87, 0.94]


def test_a_sounding_turn_is_held_in_the_same_frame() -> None:
    """Nothing is asked first."""
    assert Conversation(sounds=True).hear(LOUD * 2).decisions == [(64, Decision.START), (64, Decision.HOLD)]


def test_a_turn_that_begins_to_sound_meanwhile_is_held_then() -> None:
    """The user has the floor already."""
    heard = Conversation().hear(LOUD * 10)
    heard.sounds = True
    assert heard.hear(LOUD).at(Decision.HOLD) == [11 * FRAME_MS]


def test_silence_ends_speech_with_a_turn() -> None:
    """The transcript begins 200 ms into the silence, and at 500 ms the turn is asked for."""
    heard = Conversation().hear(LOUD * 20 + QUIET * 30)
    assert heard.decisions == [
        (64, Decision.START),
        ((20 + 7) * FRAME_MS, Decision.TRANSCRIBE),
        ((20 + 16) * FRAME_MS, Decision.STOPPED),
        ((20 + 16) * FRAME_MS, Decision.COMMIT),
    ]
    assert heard.floor.last_voiced == 20 * FRAME_SAMPLES


def test_a_short_pause_ends_nothing_and_is_transcribed_again() -> None:
    """Speech that goes on makes the transcript of the pause void."""
    heard = Conversation().hear(LOUD * 10 + QUIET * 10 + LOUD * 10 + QUIET * 16)
    assert heard.order == ["START", "TRANSCRIBE", "TRANSCRIBE", "STOPPED", "COMMIT"]


def test_speech_goes_on_at_a_lower_probability_than_it_begins() -> None:
    """0.4 continues it, and begins nothing."""
    assert Conversation().hear([0.4] * 50).order == []
    assert Conversation().hear(LOUD * 2 + [0.4] * 50).order == ["START"]
    assert Conversation().hear(LOUD * 2 + [0.3] * 20).order == ["START", "TRANSCRIBE", "STOPPED", "COMMIT"]


@pytest.mark.parametrize(("voiced", "asked_ms"), [(5, (5 + 2) * FRAME_MS), (14, 16 * FRAME_MS), (15, 480)])
def test_the_words_are_asked_for(voiced: int, asked_ms: int) -> None:
    """After 450 ms of speech, or after 64 ms of silence when it is shorter; once."""
    heard = Conversation(sounds=True).hear(LOUD * voiced + QUIET * 4)
    assert heard.at(Decision.ASK) == [asked_ms]


def test_words_end_the_turn() -> None:
    """The hold becomes an end, and the user goes on."""
    heard = Conversation(sounds=True).hear(LOUD * 15).tell(Fact.WORDS).hear(LOUD * 40 + QUIET * 16)
    assert heard.order == ["START", "HOLD", "ASK", "END", "TRANSCRIBE", "STOPPED", "COMMIT"]


def test_a_cough_lets_the_turn_go_on_and_asks_for_nothing_more() -> None:
    """There is no transcript of a silence."""
    heard = Conversation(sounds=True).hear(LOUD * 8 + QUIET * 3).tell(Fact.NOT_MEANT).hear(QUIET * 16)
    assert heard.order == ["START", "HOLD", "ASK", "RESUME", "STOPPED", "COMMIT"]


def test_a_resume_is_provisional() -> None:
    """900 ms of speech end the turn, whatever was understood."""
    heard = Conversation(sounds=True).hear(LOUD * 15).tell(Fact.NOT_MEANT).hear(LOUD * 20)
    assert heard.order == ["START", "HOLD", "ASK", "RESUME", "END"]
    assert heard.at(Decision.END) == [29 * FRAME_MS]


def test_words_after_a_cough_end_the_turn() -> None:
    """Speech that goes on after a verdict is transcribed in the next pause."""
    heard = Conversation(sounds=True).hear(LOUD * 6 + QUIET * 3).tell(Fact.NOT_MEANT)
    heard.hear(LOUD * 8 + QUIET * 7)
    assert heard.order == ["START", "HOLD", "ASK", "RESUME", "TRANSCRIBE"]
    assert heard.tell(Fact.WORDS).order[-1] == "END"


def test_without_a_verdict_long_speech_ends_the_turn() -> None:
    """900 ms are no cough."""
    heard = Conversation(sounds=True).hear(LOUD * 29)
    assert heard.at(Decision.END) == [29 * FRAME_MS]


def test_a_verdict_that_is_late_is_none() -> None:
    """After 1.8 s the hold is left to its own end; a verdict after that resumes nothing."""
    heard = Conversation(sounds=True).hear(LOUD * 8 + QUIET * 3 + [0.9, 0.0] * 2)
    heard.hear((QUIET * 10 + LOUD) * 5)
    assert heard.floor.state is State.DISMISSED
    assert heard.tell(Fact.NOT_MEANT).at(Decision.RESUME) == []


def test_the_words_decide_after_the_silence_too() -> None:
    """A short word and a slow recogniser: the turn is held until the verdict."""
    heard = Conversation(sounds=True).hear(LOUD * 5 + QUIET * 16)
    assert heard.floor.state is State.AWAITING
    assert heard.tell(Fact.WORDS).order[-1] == "END"
    other = Conversation(sounds=True).hear(LOUD * 5 + QUIET * 16).tell(Fact.NOT_MEANT)
    assert other.order[-1] == "RESUME"


def test_new_speech_while_a_verdict_is_due_keeps_the_hold() -> None:
    """The turn is not held twice."""
    heard = Conversation(sounds=True).hear(LOUD * 5 + QUIET * 16 + LOUD * 2)
    assert heard.order.count("HOLD") == 1
    assert heard.order.count("START") == 2
    assert heard.floor.state is State.UNDECIDED


def test_the_agents_own_voice_holds_nothing() -> None:
    """An onset that is an echo is none; over the echo, the user is heard a little later."""
    heard = Conversation(sounds=True, echo=True).hear(LOUD * 30)
    assert heard.order == []
    assert heard.floor.echoes > 5
    heard.echo = False
    assert heard.hear(LOUD * 4).order[:2] == ["START", "HOLD"]


def test_nothing_sounds_so_nothing_is_an_echo() -> None:
    """The check is not even made."""
    assert Conversation(echo=True).hear(LOUD * 2).order == ["START"]


def test_speech_without_an_end_is_cut() -> None:
    """At 60 s; then it begins anew."""
    heard = Conversation(utterance=100 * FRAME_SAMPLES).hear(LOUD * 120)
    assert heard.order == ["START", "STOPPED", "COMMIT", "START"]


@pytest.mark.parametrize("fact", [Fact.CLEAR])
def test_speech_that_is_taken_back_leaves_nothing(fact: Fact) -> None:
    """A held turn goes on."""
    heard = Conversation(sounds=True).hear(LOUD * 10).tell(fact).hear(QUIET * 40)
    assert heard.order == ["START", "HOLD", "RESUME", "STOPPED", "DROP"]


@pytest.mark.parametrize("fact", [Fact.CLIENT_DECIDED, Fact.TURN_OVER])
def test_a_verdict_after_the_clients_decision_does_nothing(fact: Fact) -> None:
    """Nor one after the turn's end."""
    heard = Conversation(sounds=True).hear(LOUD * 15).tell(fact).tell(Fact.WORDS).hear(LOUD * 20)
    assert heard.order == ["START", "HOLD", "ASK"]


def test_frames_that_were_left_out_are_silence() -> None:
    """The detector leaves out silent frames when it is behind."""
    heard = Conversation().hear(LOUD * 10)
    heard._frames += 20
    assert heard.hear(QUIET).order[-2:] == ["STOPPED", "COMMIT"]


def test_rules_of_the_settings_and_the_client() -> None:
    """What the client leaves out is the server's."""
    settings = Settings(speech_silence_s=0.8, speech_start_s=0.1)
    rules = rules_of(settings, TurnDetection(threshold=0.7, prefix_ms=100, create_turn=False))
    assert (rules.silence, rules.start, rules.prefix) == (800 * 16, 100 * 16, 100 * 16)
    assert (rules.threshold, round(rules.release, 2)) == (0.7, 0.55)
    assert (rules.detect, rules.create_turn, rules.interrupt) == (True, False, True)
    assert rules_of(settings, TurnDetection(silence_ms=60_000)).silence == 10_000 * 16
    assert not rules_of(settings, TurnDetection(type="none")).detect


def test_the_table_is_sound() -> None:
    """Speech starts and stops once, and what is held is resumed, ended, or left to its own end."""
    for (state, fact), (after, decisions) in ROWS.items():
        speaks = state not in (State.QUIET, State.AWAITING), after not in (State.QUIET, State.AWAITING)
        assert (Decision.START in decisions) == (speaks == (False, True)), (state, fact)
        assert (Decision.STOPPED in decisions) == (speaks == (True, False)), (state, fact)
        assert {Decision.COMMIT, Decision.DROP}.isdisjoint(decisions) or Decision.STOPPED in decisions
        held = state in (State.UNDECIDED, State.AWAITING)
        assert Decision.RESUME not in decisions or held, (state, fact)
        assert (Decision.HOLD in decisions) == (not held and after is State.UNDECIDED), (state, fact)


@QUICK
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([0.0, 0.3, 0.4, 0.6, 0.9]), st.integers(1, 40)),
            st.sampled_from([Fact.WORDS, Fact.NOT_MEANT, Fact.CLEAR, Fact.TURN_OVER, Fact.CLIENT_DECIDED]),
        ),
        max_size=15,
    ),
    st.booleans(),
)
def test_whatever_is_said_each_start_has_one_stop(
    events: list[Fact | tuple[float, int]], sounds: bool
) -> None:
    """Starts and stops alternate, each stop commits or drops, and each hold is decided at most once."""
    heard = Conversation(sounds=sounds)
    for event in events:
        if isinstance(event, Fact):
            heard.tell(event)
        else:
            probability, count = event
            heard.hear([probability] * count)
    spoken = [name for name in heard.order if name in ("START", "STOPPED")]
    assert spoken == (["START", "STOPPED"] * len(spoken))[: len(spoken)]
    assert heard.order.count("STOPPED") == heard.order.count("COMMIT") + heard.order.count("DROP")
    assert heard.order.count("HOLD") >= heard.order.count("RESUME")
