"""A session that listens: speech, holds, transcripts, inputs, commits, bad input, lost lines."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    AudioDelta,
    AudioFormat,
    ErrorEvent,
    InputAccepted,
    InputAudio,
    InputClear,
    InputCommit,
    InputId,
    InputRejected,
    InputText,
    SessionAudio,
    SessionClose,
    Snapshot,
    SpeechStarted,
    SpeechStopped,
    TranscriptDone,
    TurnEnded,
    TurnHold,
    TurnResume,
)
from bargein_server.core import (
    CloseConnection,
    Judge,
    ReportFrames,
    StartListening,
    StopListening,
    TakeAudio,
    Transcribe,
)
from bargein_server.core.speech.floor import Frame
from bargein_server.core.speech.negotiation import AudioSupport
from core_driver import Talk
from ear_driver import FRAME_S, LOUD, PIECE, QUIET, Spoken

FRAME_MS = 32


def after(talk: Talk, mark: int) -> list[str]:
    """Return the types of the events from a mark on."""
    return talk.types()[mark:]


# --- negotiation -----------------------------------------------------------------------------------


def test_a_server_without_ears_grants_no_input() -> None:
    """Audio is unsupported then, as without a word about it."""
    talk = Spoken(support=AudioSupport())
    granted = talk.opened().audio
    assert granted is not None
    assert granted.input is None
    talk.send(InputAudio(audio=PIECE))
    assert [error.code for error in talk.of(ErrorEvent)] == ["unsupported"]


def test_what_counts_is_in_the_answer() -> None:
    """All values of the detection, those of the server too."""
    granted = Spoken(silence_ms=700).opened().audio
    assert granted is not None
    assert granted.input == AudioFormat(rate=16_000)
    detection = granted.turn_detection
    assert detection is not None
    assert (detection.type, detection.silence_ms, detection.threshold, detection.prefix_ms) == (
        "server", 700, 0.5, 300,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (AudioFormat(rate=44_100), AudioFormat(rate=48_000)),
        (AudioFormat(rate=11_025), AudioFormat(rate=8_000)),
        (AudioFormat(encoding="opus", rate=24_000), AudioFormat(rate=24_000)),
    ],
)
def test_another_format_is_named_and_nothing_is_taken(asked: AudioFormat, granted: AudioFormat) -> None:
    """Sound in the wrong format would be noise."""
    talk = Spoken()
    talk.detach()
    talk.attach(audio=SessionAudio(input=asked))
    answer = talk.opened().audio
    assert answer is not None
    assert answer.input == granted
    talk.send(InputAudio(audio=PIECE))
    talk.send(InputCommit(id=InputId("c")))
    assert [(error.code, error.ref_id) for error in talk.of(ErrorEvent)] == [
        ("unsupported", None),
        ("unsupported", "c"),
    ]


def test_a_server_that_hears_enough_says_so() -> None:
    """The session opens without input, and learns why."""
    talk = Spoken(support=AudioSupport(hears=True, admit=lambda again: False))
    granted = talk.opened().audio
    assert granted is not None
    assert granted.input is None
    assert granted.output is not None
    assert [(error.code, error.retryable) for error in talk.of(ErrorEvent)] == [("at_capacity", True)]


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audio", "code"), [(b"\0" * 3, "bad_event"), (bytes(2 * 16_001), "bad_event"), (b"", None)]
)
def test_a_piece_that_is_none(audio: bytes, code: str | None) -> None:
    """It is refused or nothing, the clock stands, and the session lives."""
    talk = Spoken()
    talk.send(InputAudio(audio=audio))
    assert [error.code for error in talk.of(ErrorEvent)] == ([code] if code else [])
    assert talk.ear.clock.position == 0
    talk.hear(LOUD * 2)
    assert talk.of(SpeechStarted)


def test_sound_that_comes_faster_than_it_is_said_is_a_flood() -> None:
    """After an advance of 5 s; sound in its time never is."""
    talk = Spoken()
    for _ in range(5):
        talk.send(InputAudio(audio=bytes(32_000)))
    assert not [command for command in talk.commands if isinstance(command, CloseConnection)]
    talk.send(InputAudio(audio=PIECE))
    closed = [command.code.name for command in talk.commands if isinstance(command, CloseConnection)]
    assert closed == ["flooded"]
    patient = Spoken()
    patient.hear(QUIET * 2000)
    assert not [command for command in patient.commands if isinstance(command, CloseConnection)]


def test_audio_is_no_sign_of_life_but_speech_is() -> None:
    """A microphone that was forgotten does not keep a session."""
    talk = Spoken(idle_s=10.0)
    for _ in range(8):
        talk.hear(QUIET)
        talk.wait(1.0)
    talk.hear(LOUD * 2)
    for _ in range(9):
        talk.hear(QUIET)
        talk.wait(1.0)
    assert not [command for command in talk.commands if isinstance(command, CloseConnection)]
    for _ in range(3):
        talk.hear(QUIET)
        talk.wait(1.0)
    assert [command.code.name for command in talk.commands if isinstance(command, CloseConnection)] == [
        "expired"
    ]


# --- turns of the user -----------------------------------------------------------------------------


def test_speech_becomes_an_input() -> None:
    """Started, stopped, transcribed, asked, under one id."""
    talk = Spoken()
    mark = talk.mark()
    talk.hear(QUIET * 20 + LOUD * 20 + QUIET * 16)
    [request] = talk.asked_for(Transcribe)
    assert not request.quick
    assert request.start == 20 * 512 - 300 * 16  # the prefix
    talk.understand("Why are there tides?")
    assert after(talk, mark) == [
        "speech.started", "speech.stopped", "transcript.done", "input.accepted", "turn.started",
    ]  # fmt: skip
    [started], [stopped], [done] = talk.of(SpeechStarted), talk.of(SpeechStopped), talk.of(TranscriptDone)
    assert (started.at_ms, stopped.at_ms) == (20 * FRAME_MS, 40 * FRAME_MS)
    [accepted] = talk.of(InputAccepted)
    assert done.input_id == accepted.input_id
    assert talk.session.turn(accepted.turn_id).input.text == "Why are there tides?"


def test_a_transcript_that_is_there_before_the_silence_is_over_is_used() -> None:
    """The turn is asked for in the step in which the speech stops."""
    talk = Spoken()
    talk.hear(LOUD * 20 + QUIET * 8)
    talk.understand("Why?")
    assert not talk.of(TranscriptDone)
    talk.hear(QUIET * 8)
    assert talk.of(TranscriptDone)[0].text == "Why?"
    assert len(talk.of(InputAccepted)) == 1


def test_a_transcript_of_a_pause_is_void_when_the_user_goes_on() -> None:
    """The later one has all words."""
    talk = Spoken()
    talk.hear(LOUD * 20 + QUIET * 8)
    talk.understand("Why")
    talk.hear(LOUD * 10 + QUIET * 16)
    talk.understand("Why are there tides?")
    assert [done.text for done in talk.of(TranscriptDone)] == ["Why are there tides?"]


def test_a_cough_asks_for_nothing() -> None:
    """No transcript, no turn."""
    talk = Spoken()
    talk.hear(LOUD * 5 + QUIET * 16)
    talk.understand("Hm", no_speech=0.9)
    assert talk.types()[1:] == ["speech.started", "speech.stopped"]


def test_barge_in_holds_early_and_ends_late() -> None:
    """Held in 64 ms, ended by words, without an answer that nobody asked for."""
    talk = Spoken()
    turn = talk.speaking_turn()
    mark = talk.mark()
    talk.hear(LOUD * 2)
    assert after(talk, mark) == ["speech.started", "turn.held"]
    talk.hear(LOUD * 13)
    [request] = talk.asked_for(Transcribe)
    assert request.quick
    talk.understand("stop it")
    end = talk.end_of(turn)
    assert (end.status, end.reason) == ("interrupted", "barge_in")
    assert "interrupt.result" not in talk.types()
    talk.hear(QUIET * 16)
    talk.understand("Stop it.")
    assert [event.reason for event in talk.of(TurnEnded)] == ["barge_in"]
    assert len(talk.started()) == 2


@pytest.mark.parametrize(
    ("text", "no_speech"), [("", 0.0), ("Tss", 0.9), ("okay", 0.1), ("Yeah, right.", 0.0)]
)
def test_what_is_not_meant_lets_the_turn_go_on(text: str, no_speech: float) -> None:
    """From the exact place, and nothing is asked for."""
    talk = Spoken()
    turn = talk.speaking_turn()
    mark = talk.mark()
    talk.hear(LOUD * 6)
    held = talk.session.full  # then the agent is not pulled
    talk.hear(QUIET * 3)
    talk.understand(text, no_speech)
    assert (held, talk.session.full) == (True, False)
    talk.hear(QUIET * 16)
    assert [kind for kind in after(talk, mark) if kind != "transcript.done"] == [
        "speech.started", "turn.held", "turn.resumed", "speech.stopped",
    ]  # fmt: skip
    assert all(done.input_id is None for done in talk.of(TranscriptDone))
    assert talk.sound(turn, 1)
    assert len(talk.asked_for(Transcribe)) == 1


def test_agreement_without_a_turn_is_an_answer() -> None:
    """A yes to a question is an input."""
    talk = Spoken()
    talk.hear(LOUD * 6 + QUIET * 16)
    talk.understand("Yes.")
    assert len(talk.of(InputAccepted)) == 1


def test_a_verdict_after_the_end_does_not_touch_the_next_turn() -> None:
    """It names the turn that it was about."""
    talk = Spoken()
    turn = talk.speaking_turn()
    talk.hear(LOUD * 15)
    [request] = talk.asked_for(Transcribe)
    talk.interrupt(turn)
    other = talk.speaking_turn()
    talk.understand("stop it")
    assert request.quick
    assert [event.turn_id for event in talk.of(TurnEnded)] == [turn]
    assert talk.sound(other, 1)


def test_a_section_defers_hold_and_end() -> None:
    """As for any client (contract 9)."""
    talk = Spoken()
    turn = talk.speaking_turn()
    talk.session.enter_section(turn)
    mark = talk.mark()
    talk.hear(LOUD * 15)
    assert after(talk, mark) == ["speech.started"]
    talk.understand("stop it")
    assert not talk.of(TurnEnded)
    talk.session.leave_section(turn, talk.now)
    talk.flush()
    assert talk.end_of(turn).reason == "barge_in"


@pytest.mark.parametrize("kind", [TurnHold, TurnResume])
def test_the_clients_own_decision_counts(kind: type[TurnHold | TurnResume]) -> None:
    """The words end nothing then; they still become an input."""
    talk = Spoken()
    turn = talk.speaking_turn()
    talk.hear(LOUD * 15)
    talk.send(kind(turn_id=turn))
    talk.understand("stop it")
    assert not talk.of(TurnEnded)


def test_the_hold_that_nobody_decides_ends_by_itself() -> None:
    """A recogniser that does not answer costs 2 s."""
    talk = Spoken()
    talk.speaking_turn()
    talk.hear(LOUD * 8 + QUIET * 70)
    assert talk.types().count("turn.resumed") == 1
    talk.understand("stop it")
    assert talk.of(TurnEnded)[0].reason in ("superseded", "barge_in")


def test_without_interrupt_speech_waits() -> None:
    """It neither holds nor ends, and its input waits behind the turn."""
    talk = Spoken(interrupt=False)
    talk.speaking_turn()
    talk.hear(LOUD * 40 + QUIET * 16)
    talk.understand("and the Sun?")
    assert "turn.held" not in talk.types()
    assert not talk.of(TurnEnded)
    assert talk.types()[-1] == "input.queued"


def test_without_create_turn_the_words_are_told_alone() -> None:
    """The client asks itself; the turn is still held and ended."""
    talk = Spoken(create_turn=False)
    turn = talk.speaking_turn()
    talk.hear(LOUD * 15)
    talk.understand("and the Sun?")
    talk.hear(QUIET * 16)
    talk.understand("And the Sun?")
    assert talk.end_of(turn).reason == "barge_in"
    assert [(done.text, done.input_id) for done in talk.of(TranscriptDone)] == [("And the Sun?", None)]
    assert len(talk.of(InputAccepted)) == 1


def test_a_judge_ends_the_silence_early() -> None:
    """At 200 ms, when the transcript is there."""
    talk = Spoken(judges=True)
    talk.hear(LOUD * 20 + QUIET * 7)
    assert len(talk.asked_for(Judge)) == 1
    talk.judge(0.8)
    assert not talk.of(SpeechStopped)
    talk.understand("Why?")
    assert talk.of(SpeechStopped)
    assert len(talk.of(InputAccepted)) == 1


def test_an_incomplete_utterance_has_its_silence() -> None:
    """The judge says no."""
    talk = Spoken(judges=True)
    talk.hear(LOUD * 20 + QUIET * 7)
    talk.understand("Why are")
    talk.judge(0.2)
    assert not talk.of(SpeechStopped)


@pytest.mark.parametrize("frames", [LOUD * 15, LOUD * 20 + QUIET * 16])
def test_a_recogniser_that_fails_is_told_and_the_turn_goes_on(frames: list[float]) -> None:
    """Retryable, and without a word of the exception."""
    talk = Spoken()
    turn = talk.speaking_turn()
    talk.hear(frames[:15])
    if len(frames) > 15:
        talk.fail()
        talk.hear(frames[15:])
    talk.fail()
    assert talk.sound(turn, 1)
    assert {(error.code, error.retryable) for error in talk.of(ErrorEvent)} == {("upstream", True)}


def test_the_agents_voice_in_the_microphone_holds_nothing() -> None:
    """The host's check is asked when a hold is due."""
    talk = Spoken()
    talk.speaking_turn()
    spans: list[tuple[int, int]] = []

    def echo(start: int, end: int) -> bool:
        spans.append((start, end))
        return True

    talk.ear.is_echo = echo
    talk.hear(LOUD * 3)
    assert "speech.started" not in talk.types()
    assert spans == [(0, 1024)]


# --- commits ---------------------------------------------------------------------------------------


def test_push_to_talk() -> None:
    """All sound since the last commit, under the client's id; no detector."""
    talk = Spoken(type="none")
    [begin] = [command for command in talk.commands if isinstance(command, StartListening)]
    assert not begin.detect
    for _ in range(10):
        talk.wait(FRAME_S)
        talk.send(InputAudio(audio=PIECE))
    talk.commit()
    [request] = talk.asked_for(Transcribe)
    assert (request.start, request.end) == (0, 5120)
    talk.understand("Hello.")
    assert talk.types()[1:] == ["transcript.done", "input.accepted", "turn.started"]
    assert talk.of(InputAccepted)[0].input_id == "c1"


@pytest.mark.parametrize("type_", ["none", "server"])
def test_a_commit_of_nothing_is_rejected(type_: str) -> None:
    """With `no_speech`; a resend gets the same answer."""
    talk = Spoken(type=type_)
    talk.commit()
    talk.commit()
    assert [(event.code, event.duplicate) for event in talk.of(InputRejected)] == [
        ("no_speech", False),
        ("no_speech", True),
    ]


def test_a_commit_of_noise_is_rejected() -> None:
    """Once it is transcribed."""
    talk = Spoken(type="none")
    talk.send(InputAudio(audio=PIECE))
    talk.commit()
    talk.commit()  # a resend meanwhile changes nothing
    assert len(talk.asked_for(Transcribe)) == 1
    talk.understand("", 0.9)
    assert [event.code for event in talk.of(InputRejected)] == ["no_speech"]


def test_a_commit_ends_the_speech() -> None:
    """Without the silence."""
    talk = Spoken()
    talk.hear(LOUD * 20)
    talk.commit()
    assert talk.of(SpeechStopped)
    talk.understand("Hello.")
    assert [event.input_id for event in talk.of(InputAccepted)] == ["c1"]


def test_a_commit_waits_for_the_detector() -> None:
    """It covers the sound that was sent before it."""
    talk = Spoken()
    for _ in range(10):
        talk.wait(FRAME_S)
        talk.send(InputAudio(audio=PIECE))
    talk.commit()
    assert not talk.of(InputRejected)
    assert isinstance(talk.commands[-1], ReportFrames)
    talk.ear.frames([Frame(512 * n, 0.9) for n in range(1, 11)], talk.now)
    talk.flush()
    assert talk.types()[1:] == ["speech.started", "speech.stopped"]
    talk.understand("Hello.")
    assert [event.input_id for event in talk.of(InputAccepted)] == ["c1"]


def test_audio_makes_the_previous_token_void() -> None:
    """It is a frame like any other: whoever has an old token cannot take over a call."""
    talk = Spoken()
    talk.come_back()
    assert not talk.session.identity.confirmed
    talk.wait(FRAME_S)
    talk.send(InputAudio(audio=PIECE))
    assert talk.session.identity.confirmed


def test_the_rest_of_committed_speech_begins_no_new_one() -> None:
    """The last frame before a commit is looked at after it."""
    talk = Spoken()
    for _ in range(10):
        talk.wait(FRAME_S)
        talk.send(InputAudio(audio=PIECE))
    talk.commit()
    talk.ear.frames([Frame(512 * n, 0.95) for n in range(1, 11)], talk.now)
    talk.flush()
    assert talk.types()[1:] == ["speech.started", "speech.stopped"]


def test_a_failed_commit_is_rejected_as_upstream() -> None:
    """It has one answer, like any input."""
    talk = Spoken(type="none")
    talk.send(InputAudio(audio=PIECE))
    talk.commit()
    talk.fail()
    assert [event.code for event in talk.of(InputRejected)] == ["upstream"]
    assert not talk.of(ErrorEvent)


def test_a_commit_while_the_server_stops_is_rejected() -> None:
    """As any input."""
    talk = Spoken(type="none")
    talk.send(InputAudio(audio=PIECE))
    talk.commit()
    talk.session.drain(0, talk.now)
    talk.understand("Hello.")
    assert [event.code for event in talk.of(InputRejected)] == ["shutting_down"]


def test_what_is_cleared_is_forgotten() -> None:
    """Speech stops, the turn goes on, and its sound is in no later transcript."""
    talk = Spoken()
    talk.speaking_turn()
    talk.hear(LOUD * 6)
    mark = talk.mark()
    talk.send(InputClear())
    assert after(talk, mark) == ["turn.resumed", "speech.stopped"]
    assert not talk.asked_for(Transcribe)
    talk.hear(LOUD * 3)
    talk.hear(QUIET * 16)
    assert talk.asked_for(Transcribe)[-1].start == 6 * 512


# --- lines -----------------------------------------------------------------------------------------


def test_a_lost_line_stops_speech_and_drops_it() -> None:
    """In the step of the detach; the held turn goes on, and the clock goes on after the resume."""
    talk = Spoken()
    turn = talk.speaking_turn()
    talk.hear(LOUD * 6)
    talk.detach()
    assert isinstance(talk.commands[-1], StopListening)
    talk.come_back()
    assert talk.types()[-4:] == ["session.opened", "turn.resumed", "speech.stopped", "replay.done"]
    assert not talk.asked_for(Transcribe)
    [_, again] = [command for command in talk.commands if isinstance(command, StartListening)]
    assert again.at == 6 * 512
    talk.hear(LOUD * 2)
    assert talk.of(SpeechStarted)[-1].at_ms == 6 * FRAME_MS
    assert talk.sound(turn, 1)


def test_speech_that_was_over_is_asked_for_without_a_line() -> None:
    """Its sound was whole."""
    talk = Spoken()
    talk.hear(LOUD * 20 + QUIET * 16)
    talk.detach()
    talk.understand("Why?")
    talk.come_back()
    assert talk.of(InputAccepted)
    assert talk.types()[-1] == "replay.done"


def test_words_for_a_session_that_is_over_ask_for_nothing() -> None:
    """No turn would ever end it."""
    talk = Spoken()
    talk.hear(LOUD * 20 + QUIET * 16)
    talk.send(SessionClose())
    talk.detach()
    talk.understand("Why?")
    assert not talk.started()


def test_a_commit_that_was_lost_gets_its_answer_on_the_next_line() -> None:
    """Its first answer, or `no_speech`: its sound is gone."""
    talk = Spoken(type="none")
    talk.send(InputAudio(audio=PIECE))
    talk.commit()
    talk.detach()
    talk.understand("Hello.")
    pending = [InputCommit(id=InputId("c1")), InputCommit(id=InputId("c2"))]
    talk.attach(0, pending=pending, audio=talk.asked)
    assert [(event.input_id, event.duplicate) for event in talk.of(InputAccepted)] == [
        ("c1", True),
        ("c1", False),
    ]
    assert [(event.input_id, event.code) for event in talk.of(InputRejected)] == [("c2", "no_speech")]


def test_the_clock_goes_on_at_another_rate() -> None:
    """It counts milliseconds, not samples of the input; the client learns where it stands."""
    talk = Spoken()
    fresh = talk.opened().audio
    assert fresh is not None
    assert fresh.at_ms is None
    talk.hear(QUIET * 10)
    talk.detach()
    talk.attach(0, audio=SessionAudio(input=AudioFormat(encoding="mulaw", rate=8_000)))
    resumed = talk.opened().audio
    assert resumed is not None
    assert resumed.at_ms == 320
    talk.send(InputAudio(audio=bytes(8 * 64)))
    assert talk.ear.clock.position == 10 * 512 + 64 * 16
    [*_, piece] = [command for command in talk.commands if isinstance(command, TakeAudio)]
    assert piece.at == 10 * 512


def test_an_interrupt_before_the_words_ends_their_turn() -> None:
    """An input that is interrupted by its id before it exists (contract 4)."""
    talk = Spoken(type="none")
    talk.send(InputAudio(audio=PIECE))
    talk.commit()
    talk.interrupt(asked_by="c1", reason="oops")
    talk.understand("Hello.")
    assert [event.reason for event in talk.of(TurnEnded)] == ["oops"]


def test_text_beside_speech() -> None:
    """A typed input interrupts, and speech goes on."""
    talk = Spoken()
    talk.speaking_turn()
    talk.hear(LOUD * 6)
    talk.send(InputText(id=InputId("typed"), text="wait"))
    assert talk.of(TurnEnded)[0].reason == "superseded"
    talk.hear(LOUD * 20 + QUIET * 16)
    talk.understand("never mind that")
    assert len(talk.of(InputAccepted)) == 3


def test_an_agent_makes_no_sound_for_a_client_without_audio() -> None:
    """Its audio is dropped; text goes through."""
    talk = Talk()
    talk.detach()
    talk.attach(audio=None)
    turn = talk.ask()
    assert talk.emit(turn, AudioDelta(audio=b"\0\0", start_ms=0, duration_ms=1, text="x"), "text")
    assert "audio.delta" not in talk.types()
    assert "text.delta" in talk.types()


def test_a_minute_of_sound_leaves_room_for_words() -> None:
    """The replay log is bounded, sound included; a client that was away gets all words."""
    talk = Spoken()
    turn = talk.ask()
    for second in range(60):
        audio = AudioDelta(audio=bytes(48_000), start_ms=1000 * second, duration_ms=1000, text=f"w{second} ")
        talk.emit(turn, audio)
    assert talk.session.kept_bytes < 1.5 * 1024 * 1024
    talk.detach()
    talk.attach(0, audio=talk.asked)
    [*_, snapshot] = talk.of(Snapshot)
    words = [span.text for span in snapshot.turns[-1].lanes[""].audio]
    assert words == [f"w{second} " for second in range(60)]
