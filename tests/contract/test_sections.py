"""Contract 9: an interrupt waits for an uninterruptible section and spares its output."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    InputQueued,
    Interrupt,
    InterruptId,
    InterruptResult,
    SessionClose,
    Status,
    TextDelta,
    TurnEnded,
    TurnHeld,
    TurnHold,
    TurnResume,
    TurnResumed,
)
from core_driver import Talk


def texts(talk: Talk) -> list[str]:
    return [event.text for event in talk.of(TextDelta)]


def test_an_interrupt_in_a_section_is_deferred_until_the_section_is_over() -> None:
    """It takes effect in the step in which the section ends, its output being written."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    talk.emit(turn, "legal ")
    assert talk.interrupt(turn).outcome == "deferred"
    talk.emit(turn, "sentence")
    assert talk.of(TurnEnded) == []
    talk.leave_section(turn)
    assert texts(talk) == ["legal ", "sentence"]
    assert talk.end_of(turn).status == "interrupted"
    assert talk.cancelled() == [turn]


def test_it_waits_until_the_output_is_written() -> None:
    """The section has ended and its output waits for the line: so does the interrupt."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.enter_section(turn)
    talk.emit(turn, "legal ", "sentence")
    talk.leave_section(turn)
    assert talk.interrupt(turn).outcome == "deferred"
    assert talk.of(TurnEnded) == []
    talk.open = True
    talk.flush()
    assert texts(talk) == ["legal sentence"]
    assert talk.end_of(turn).heard.text == "legal sentence"


def test_the_purge_spares_only_the_section() -> None:
    """What waited before it and what is yielded after it is dropped."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "before ")
    talk.enter_section(turn)
    talk.emit(turn, "inside ")
    talk.interrupt(turn)
    talk.leave_section(turn)
    talk.emit(turn, "after")
    talk.open = True
    talk.flush()
    assert texts(talk) == ["inside "]


def test_an_agent_with_a_deferred_interrupt_is_not_pulled_after_its_section() -> None:
    """What it would yield is lost anyway."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.enter_section(turn)
    talk.emit(turn, "inside")
    talk.interrupt(turn)
    assert not talk.session.full
    talk.leave_section(turn)
    assert talk.session.full


def test_force_does_not_wait() -> None:
    """It ends the turn at once and the section's output with it."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.enter_section(turn)
    talk.emit(turn, "inside")
    assert talk.interrupt(turn, force=True).outcome == "interrupted"
    talk.open = True
    talk.flush()
    assert texts(talk) == []


def test_session_close_and_shutdown_do_not_wait() -> None:
    """Neither leaves the server hanging on a section."""
    for stop in ("close", "shutdown"):
        talk = Talk()
        turn = talk.ask()
        talk.enter_section(turn)
        if stop == "close":
            talk.send(SessionClose())
        else:
            talk.session.shut_down(talk.now)
            talk.flush()
        assert talk.end_of(turn).reason == ("session_closed" if stop == "close" else "shutdown")


def test_an_input_that_would_interrupt_waits() -> None:
    """It is queued in front and starts when the section is over, superseding the old turn."""
    talk = Talk()
    turn = talk.ask()
    waiting = talk.ask(on_busy="queue")
    talk.enter_section(turn)
    barging = talk.ask("now!")
    assert (talk.of(InputQueued)[-1].turn_id, talk.of(InputQueued)[-1].position) == (barging, 1)
    assert talk.emit(turn, "protected")
    assert talk.started() == [turn]
    talk.leave_section(turn)
    assert texts(talk) == ["protected"]
    assert talk.end_of(turn).reason == "superseded"
    assert talk.started() == [turn, barging]
    talk.finish(barging)
    assert talk.started() == [turn, barging, waiting]


def test_a_second_input_that_would_interrupt_replaces_the_first() -> None:
    """Only the newest is wanted."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    first, second = talk.ask("one"), talk.ask("two")
    assert talk.end_of(first).reason == "superseded"
    talk.leave_section(turn)
    assert talk.started() == [turn, second]


def test_a_hold_is_deferred_too() -> None:
    """It begins when the section is over."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    talk.send(TurnHold(turn_id=turn))
    talk.emit(turn, "inside")
    assert talk.of(TurnHeld) == []
    talk.leave_section(turn)
    assert len(talk.of(TurnHeld)) == 1
    talk.emit(turn, "after")
    assert texts(talk) == ["inside"]


def test_nested_sections_are_over_when_the_outer_one_is() -> None:
    """They are counted."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    talk.enter_section(turn)
    talk.interrupt(turn)
    talk.leave_section(turn)
    assert talk.of(TurnEnded) == []
    talk.leave_section(turn)
    assert len(talk.of(TurnEnded)) == 1


def test_no_section_begins_after_the_fence() -> None:
    """An agent that is being cancelled cannot protect itself."""
    talk = Talk()
    turn = talk.ask()
    talk.interrupt(turn)
    assert not talk.enter_section(turn)
    talk.leave_section(turn)


def test_an_agent_that_returns_inside_a_section_has_left_it() -> None:
    """Its output is still spared by an interrupt that came before."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.enter_section(turn)
    talk.emit(turn, "inside")
    talk.interrupt(turn)
    talk.finish(turn)
    talk.open = True
    talk.flush()
    assert texts(talk) == ["inside"]
    assert talk.end_of(turn).status == "interrupted"


def test_a_section_is_spared_when_nobody_listens() -> None:
    """With the client away its output goes to the log and the interrupt that waited takes effect."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    talk.interrupt(turn)
    talk.detach()
    talk.emit(turn, "inside")
    talk.leave_section(turn)
    talk.attach(cursor=0)
    assert texts(talk)[-1] == "inside"
    assert talk.end_of(turn).status == "interrupted"


def test_an_agent_that_returns_inside_a_section_of_which_all_is_written_is_interrupted() -> None:
    """The interrupt that waited takes effect, not the agent's return."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    talk.emit(turn, "inside")
    talk.interrupt(turn)
    talk.finish(turn)
    assert talk.end_of(turn).status == "interrupted"


def test_an_old_agent_cannot_protect_the_turn_that_runs_now() -> None:
    """Nor can it end the section of another."""
    talk = Talk()
    old = talk.ask()
    new = talk.ask()
    assert not talk.enter_section(old)
    assert talk.enter_section(new)
    talk.leave_section(old)
    assert talk.interrupt(new).outcome == "deferred"


def test_a_section_that_waited_for_the_line_is_over_when_the_line_is_lost() -> None:
    """Its output goes to the log, and the interrupt that waited for it takes effect there."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.enter_section(turn)
    talk.emit(turn, "inside")
    talk.leave_section(turn)
    assert talk.interrupt(turn).outcome == "deferred"
    talk.detach()
    assert talk.cancelled() == [turn]


def test_an_interrupt_after_a_section_does_not_wait() -> None:
    """The section was left and its output is written."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    talk.emit(turn, "inside")
    talk.leave_section(turn)
    assert talk.interrupt(turn).outcome == "interrupted"


@pytest.mark.parametrize("event", ["hold", "resume", "section", "interrupt"])
def test_nothing_takes_a_deferred_interrupt_back(event: str) -> None:
    """Events that follow it change neither the end of the turn nor its time."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    assert talk.interrupt(turn).outcome == "deferred"
    if event == "hold":
        talk.send(TurnHold(turn_id=turn))
    elif event == "resume":
        talk.send(TurnResume(turn_id=turn))
    elif event == "section":
        assert talk.enter_section(turn)
        talk.leave_section(turn)
    else:
        assert talk.interrupt(turn, reason="again").outcome == "deferred"
    talk.emit(turn, "inside")
    assert talk.of(TurnEnded) == []
    talk.leave_section(turn)
    assert (texts(talk), talk.of(TurnHeld), len(talk.of(TurnEnded))) == (["inside"], [], 1)
    assert talk.end_of(turn).reason == "client"


@pytest.mark.parametrize("held", [False, True])
def test_a_resume_in_a_section_leaves_the_section_protected(held: bool) -> None:
    """Only the hold ends, if there is one."""
    talk = Talk()
    turn = talk.ask()
    if held:
        talk.send(TurnHold(turn_id=turn))
    talk.enter_section(turn)
    talk.send(TurnResume(turn_id=turn))
    talk.emit(turn, "inside")
    assert texts(talk) == ["inside"]
    assert talk.interrupt(turn).outcome == "deferred"


def test_a_deferred_interrupt_ends_the_hold_of_its_section() -> None:
    """The output of a section that is held would never be written."""
    talk = Talk()
    turn = talk.ask()
    talk.send(TurnHold(turn_id=turn))
    talk.enter_section(turn)
    assert talk.interrupt(turn).outcome == "deferred"
    talk.emit(turn, "inside")
    talk.leave_section(turn)
    assert (texts(talk), len(talk.of(TurnResumed)), len(talk.of(TurnEnded))) == (["inside"], 1, 1)


@pytest.mark.parametrize("event", ["section", "hold"])
def test_a_deferred_hold_outlasts_a_nested_section_and_a_second_hold(event: str) -> None:
    """It begins when the outer section is over."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    talk.send(TurnHold(turn_id=turn))
    if event == "section":
        talk.enter_section(turn)
        talk.leave_section(turn)
    else:
        talk.send(TurnHold(turn_id=turn))
    assert talk.of(TurnHeld) == []
    talk.leave_section(turn)
    assert len(talk.of(TurnHeld)) == 1


def test_a_deferred_hold_is_forgotten_with_a_resume() -> None:
    """The output after the section is written."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    talk.send(TurnHold(turn_id=turn))
    talk.send(TurnResume(turn_id=turn))
    talk.leave_section(turn)
    talk.emit(turn, "after")
    assert (texts(talk), talk.of(TurnHeld)) == (["after"], [])


def test_a_deferred_interrupt_takes_effect_while_the_client_is_away() -> None:
    """Output that waits behind a hold goes to the log when a request from the side ends the hold."""
    talk = Talk()
    turn = talk.ask()
    talk.send(TurnHold(turn_id=turn))
    talk.enter_section(turn)
    talk.session.emit(turn, Status(message="paid"), talk.now)
    talk.leave_section(turn)
    talk.detach()
    cut = Interrupt(id=InterruptId("x"), turn_id=turn)
    [answer] = talk.session.side_channel.request(cut, talk.now)
    assert isinstance(answer, InterruptResult)
    assert answer.outcome == "deferred"
    assert not talk.session.busy
    talk.flush()
    assert talk.cancelled() == [turn]
