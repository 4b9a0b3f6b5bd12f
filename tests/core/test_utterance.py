"""What an utterance foretells of an interrupt: the session must say the same, to the byte (`Talk.send`)."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    JSON,
    AudioDelta,
    InputId,
    Interrupt,
    InterruptId,
    Playback,
    Played,
    Seq,
    Thought,
    TurnId,
    Usage,
)
from bargein_server.core.turn_record import MAX_TURN_CHARS
from core_driver import Talk


def speaking(*words: str) -> tuple[Talk, TurnId]:
    """Return a talk in which a turn is saying something."""
    talk = Talk()
    turn = talk.ask("hello", id="asked")
    talk.emit(turn, *(words or ("One ", "two ")))
    return talk, turn


@pytest.mark.parametrize(
    ("named", "asked_by"), [(False, None), (False, "asked"), (True, None), (True, "asked"), (True, "other")]
)
@pytest.mark.parametrize(("reason", "force"), [(None, False), ("stop_button", True)])
def test_a_plain_interrupt_is_foretold(
    named: bool, asked_by: str | None, reason: str | None, force: bool
) -> None:
    """By whatever it names the turn, with its reason, and all that was said as heard."""
    talk, turn = speaking()
    talk.interrupt(turn if named else None, asked_by=asked_by, reason=reason, force=force)
    assert talk.foretold
    end = talk.end_of(turn)
    assert (end.reason, end.heard.text, end.heard.seq) == (reason or "client", "One two ", end.last_seq)


def test_what_was_said_before_the_utterance_belongs_to_it() -> None:
    """Other output, a ping and a report of usage end an utterance, and the next one knows of them."""
    talk, turn = speaking("One ")
    talk.emit(turn, Thought(text="hm"), "two ")
    talk.session.add_usage(turn, Usage(input_tokens=3, output_tokens=4))
    talk.emit(turn, "three ", "four")
    talk.interrupt(turn)
    assert talk.foretold
    end = talk.end_of(turn)
    assert (end.heard.text, end.usage) == ("One two three four", Usage(input_tokens=3, output_tokens=4))


def test_the_next_turn_follows_what_was_foretold() -> None:
    """An input that waits gets the floor after that."""
    talk, turn = speaking()
    following = talk.ask("and then?", on_busy="queue")
    talk.emit(turn, "three")
    before = talk.mark()
    talk.interrupt(turn)
    assert talk.foretold
    assert talk.types(before) == ["interrupt.result", "turn.ended", "turn.started"]
    assert talk.started() == [turn, following]


def test_a_resend_is_not_foretold() -> None:
    """It gets the first answer again and ends nothing (contract 4), also that of another kind."""
    talk, turn = speaking()
    talk.interrupt(turn, id="x")
    turn = talk.ask()
    talk.emit(turn, "again ")
    assert talk.interrupt(turn, id="x").duplicate
    assert not talk.foretold
    talk.emit(turn, "and again")
    talk.send(Interrupt(id=InterruptId("asked"), turn_id=turn))
    assert not talk.foretold
    assert talk.types()[-1] == "error"


@pytest.mark.parametrize(("turn_id", "asked_by"), [("t0", None), ("t0", "asked"), (None, "other")])
def test_an_interrupt_of_something_else_is_not_foretold(turn_id: str | None, asked_by: str | None) -> None:
    """The session knows what it names, or that it does not."""
    talk, _ = speaking()
    talk.interrupt(None if turn_id is None else TurnId(turn_id), asked_by=asked_by)
    assert not talk.foretold


def test_an_interrupt_that_tells_what_was_played_is_not_foretold() -> None:
    """What was heard is to be worked out; so it is when the client told before, and when there is sound."""
    talk, turn = speaking()
    talk.interrupt(turn, played=Played(chars=3))
    assert not talk.foretold
    assert talk.end_of(turn).heard.text == "One"
    talk, turn = speaking()
    talk.send(Playback(turn_id=turn, chars=5))
    talk.emit(turn, "three")
    talk.interrupt(turn)
    assert not talk.foretold
    assert talk.end_of(turn).heard.text == "One t"
    talk, turn = speaking()
    talk.emit(turn, AudioDelta(audio=b"\0\0", start_ms=0, duration_ms=40, text="sound"), "three")
    talk.interrupt(turn)
    assert not talk.foretold
    assert talk.end_of(turn).heard.audio_ms == 40


def test_nothing_is_foretold_that_a_turn_would_not_remember() -> None:
    """Up to its bound the whole text is heard, beyond that what it keeps."""
    talk, turn = speaking("x" * 16_000, *["x" * 16_000] * 7)
    talk.emit(turn, "y" * (MAX_TURN_CHARS - 8 * 16_000))
    talk.interrupt(turn)
    assert talk.foretold
    assert len(talk.end_of(turn).heard.text) == MAX_TURN_CHARS
    talk, turn = speaking("x" * 16_000, *["x" * 16_000] * 7)
    talk.emit(turn, "y" * (MAX_TURN_CHARS - 8 * 16_000 + 1))
    talk.interrupt(turn)
    assert not talk.foretold
    assert len(talk.end_of(turn).heard.text) == MAX_TURN_CHARS


def test_who_has_not_said_a_word_foretells_nothing() -> None:
    """The last number of the turn may be that of something else."""
    talk, turn = speaking()
    utterance = talk.session.output.begin_utterance(turn)
    assert utterance is not None
    event = Interrupt(id=InterruptId("x"), input_id=InputId("asked"))
    assert utterance.foretell(event) is None
    utterance.say("three ", talk.now)
    utterance.say("four", talk.now)
    assert utterance.take_back(1) == ["four"]
    frames = utterance.foretell(event)
    assert frames is not None
    end = JSON.decode_server(frames[1])
    assert (end.heard.text, end.last_seq, end.seq) == ("One two three ", Seq(end.seq - 1), end.heard.seq + 1)  # type: ignore[union-attr]
    assert utterance.take_back(1) == ["three "]
    assert utterance.foretell(event) is None
