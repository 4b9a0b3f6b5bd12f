"""Contract 10: a hold stops output at once, loses nothing, and resumes by itself."""

from __future__ import annotations

import pytest

from bargein_protocol import ErrorEvent, TextDelta, TurnHeld, TurnHold, TurnId, TurnResume, TurnResumed
from core_driver import Talk


def texts(talk: Talk) -> list[str]:
    return [event.text for event in talk.of(TextDelta)]


def test_output_stops_at_once_and_goes_on_from_the_exact_place() -> None:
    """Nothing is written while held, nothing is lost after."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "a")
    talk.open = False
    talk.emit(turn, "b")
    talk.send(TurnHold(turn_id=turn))
    talk.open = True
    talk.emit(turn, "c")
    assert texts(talk) == ["a"]
    assert talk.types()[-1] == "turn.held"
    talk.send(TurnResume(turn_id=turn))
    assert "".join(texts(talk)) == "abc"
    assert talk.numbers() == list(range(1, len(talk.numbers()) + 1))


def test_the_agent_is_not_pulled_while_held() -> None:
    """The generator stands where it is."""
    talk = Talk()
    turn = talk.ask()
    pulled = [talk.session.full]
    for event in (TurnHold(turn_id=turn), TurnResume(turn_id=turn)):
        talk.send(event)
        pulled.append(talk.session.full)
    assert pulled == [False, True, False]


def test_an_undecided_hold_resumes_after_two_seconds() -> None:
    """Not a moment before."""
    talk = Talk()
    turn = talk.ask()
    talk.send(TurnHold(turn_id=turn))
    talk.wait(1.99)
    assert talk.of(TurnResumed) == []
    talk.wait(0.02)
    assert len(talk.of(TurnResumed)) == 1


def test_an_interrupt_after_a_hold_makes_it_final() -> None:
    """What was held back is purged."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "a")
    talk.send(TurnHold(turn_id=turn))
    talk.emit(turn, "b")
    assert talk.interrupt(turn).outcome == "interrupted"
    talk.wait(5)
    assert texts(talk) == ["a"]
    assert talk.of(TurnResumed) == []


def test_hold_and_resume_are_idempotent() -> None:
    """A second hold and a second resume do nothing and are not answered."""
    talk = Talk()
    turn = talk.ask()
    for event in (
        TurnHold(turn_id=turn),
        TurnHold(turn_id=turn),
        TurnResume(turn_id=turn),
        TurnResume(turn_id=turn),
    ):
        talk.send(event)
    assert (len(talk.of(TurnHeld)), len(talk.of(TurnResumed)), talk.of(ErrorEvent)) == (1, 1, [])


def test_holding_what_does_not_run_is_an_error() -> None:
    """An ended turn is `not_running`, one that never was is `unknown_turn`."""
    talk = Talk()
    turn = talk.ask()
    talk.finish(turn)
    talk.send(TurnHold(turn_id=turn))
    talk.send(TurnResume(turn_id=TurnId("t99")))
    assert [(event.code, event.ref_id) for event in talk.of(ErrorEvent)] == [
        ("not_running", turn),
        ("unknown_turn", "t99"),
    ]


def test_a_held_turn_is_not_blamed_for_silence() -> None:
    """The no-output time counts only while the agent is pulled."""
    talk = Talk(hold_s=100, no_output_s=30)
    turn = talk.ask()
    talk.send(TurnHold(turn_id=turn))
    talk.wait(99)
    talk.send(TurnResume(turn_id=turn))
    talk.wait(29)
    assert talk.emit(turn, "here I am")


def test_a_hold_goes_on_while_the_client_is_away_and_ends_by_itself() -> None:
    """Nothing reaches the log while held; then it does."""
    talk = Talk()
    turn = talk.ask()
    talk.send(TurnHold(turn_id=turn))
    talk.detach()
    talk.emit(turn, "a")
    talk.wait(2)
    talk.attach(cursor=0)
    assert texts(talk) == ["a"]


def test_a_turn_that_is_done_ends_after_its_hold_though_the_client_is_away() -> None:
    """Nobody is there to read it, so the rest and the end go to the log when the hold ends by itself."""
    talk = Talk()
    turn = talk.ask()
    talk.send(TurnHold(turn_id=turn))
    talk.emit(turn, "a")
    talk.detach()
    talk.finish(turn)
    talk.wait(2)
    talk.attach(cursor=0)
    assert talk.opened().turn_id is None
    assert talk.end_of(turn).status == "completed"


def test_a_full_agent_is_pulled_again_after_its_hold_though_the_client_is_away() -> None:
    """What was held back goes to the log, so that there is room again."""
    talk = Talk(max_queued_output_bytes=1024)
    turn = talk.ask()
    talk.send(TurnHold(turn_id=turn))
    talk.emit(turn, "a" * 2000)
    talk.detach()
    talk.wait(1.9)
    assert talk.session.full
    talk.wait(0.2)
    assert not talk.session.full


@pytest.mark.parametrize("inside", ["", "inside "])
def test_a_hold_outlasts_a_section_that_begins_during_it(inside: str) -> None:
    """Output of the section waits, and so does the output after it, until the resume."""
    talk = Talk()
    turn = talk.ask()
    talk.send(TurnHold(turn_id=turn))
    assert talk.enter_section(turn)
    talk.send(TurnHold(turn_id=turn))
    talk.emit(turn, inside)
    talk.leave_section(turn)
    talk.emit(turn, "after")
    assert (texts(talk), len(talk.of(TurnHeld)), talk.session.full) == ([], 1, True)
    talk.send(TurnResume(turn_id=turn))
    assert "".join(texts(talk)) == inside + "after"
    assert talk.interrupt(turn).outcome == "interrupted"
