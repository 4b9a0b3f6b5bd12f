"""Contract 4: every request is answered once, and a resend gets the first answer again."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    ErrorEvent,
    InputAccepted,
    InputQueued,
    InputRejected,
    InputText,
    Interrupt,
    InterruptResult,
    TurnEnded,
    TurnStarted,
)
from bargein_protocol.types import InputId, InterruptId
from core_driver import Talk


def test_an_interrupt_for_an_ended_turn_says_so_and_never_ends_the_next() -> None:
    """A late interrupt names its turn, so the turn that runs now is safe."""
    talk = Talk()
    first = talk.ask()
    talk.emit(first, "heard")
    talk.finish(first)
    second = talk.ask()
    result = talk.interrupt(first)
    assert (result.outcome, result.turn_id) == ("already_ended", first)
    assert result.heard is not None
    assert result.heard.text == "heard"
    assert talk.emit(second, "still here")


def test_an_interrupt_for_an_unknown_turn_says_so() -> None:
    """Nothing runs under this name."""
    talk = Talk()
    running = talk.ask()
    assert talk.interrupt("t99").outcome == "unknown_turn"  # type: ignore[arg-type]
    assert talk.emit(running, "still here")


def test_the_same_interrupt_again_gets_the_first_answer_marked() -> None:
    """A resend after the turn ended still says `interrupted`, and ends nothing else."""
    talk = Talk()
    first = talk.ask()
    assert talk.interrupt(first, id="x").outcome == "interrupted"
    second = talk.ask()
    again = talk.interrupt(first, id="x")
    assert (again.outcome, again.duplicate) == ("interrupted", True)
    assert talk.emit(second, "still here")
    assert len(talk.of(TurnEnded)) == 1


def test_an_interrupt_can_name_the_input_whose_turn_is_not_known_yet() -> None:
    """Input and interrupt sent back to back."""
    talk = Talk()
    turn = talk.ask(id="i")
    result = talk.interrupt(asked_by="i")
    assert (result.outcome, result.turn_id) == ("interrupted", turn)


def test_an_interrupt_for_an_input_that_was_not_seen_is_remembered() -> None:
    """It overtook its input: the input is accepted and its turn ends before it starts."""
    talk = Talk()
    assert talk.interrupt(asked_by="later", reason="oops").outcome == "deferred"
    mark = talk.mark()
    turn = talk.ask(id="later")
    assert talk.types(mark) == ["input.accepted", "turn.ended"]
    assert (talk.end_of(turn).status, talk.end_of(turn).reason) == ("interrupted", "oops")
    assert talk.started() == []


def test_a_remembered_interrupt_spares_the_turn_that_runs() -> None:
    """The cancelled input does not supersede what runs."""
    talk = Talk()
    running = talk.ask()
    talk.interrupt(asked_by="later")
    talk.ask(id="later")
    assert talk.emit(running, "still here")


def test_only_so_many_early_interrupts_are_remembered() -> None:
    """64 are remembered; the next is answered `unknown_turn`."""
    talk = Talk()
    outcomes = [talk.interrupt(asked_by=f"later{n}").outcome for n in range(65)]
    assert outcomes == ["deferred"] * 64 + ["unknown_turn"]


def test_an_interrupt_for_a_rejected_input_is_not_remembered() -> None:
    """The input was seen and got no turn."""
    talk = Talk()
    talk.ask()
    talk.ask(id="no", on_busy="reject")
    assert talk.interrupt(asked_by="no").outcome == "unknown_turn"


def test_the_bare_form_ends_whatever_runs() -> None:
    """For people at a terminal: the running turn, else the last one, else nothing."""
    talk = Talk()
    assert talk.interrupt().outcome == "unknown_turn"
    turn = talk.ask()
    assert talk.interrupt().turn_id == turn
    assert talk.interrupt().outcome == "already_ended"


def test_a_turn_named_wins_over_an_input_named() -> None:
    """Both given: the turn counts when it is known."""
    talk = Talk()
    first = talk.ask(id="a")
    second = talk.ask(id="b", on_busy="queue")
    assert talk.interrupt(first, asked_by="b").turn_id == first
    assert talk.interrupt("t99", asked_by="b").turn_id == second  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["interrupt", "queue"])
def test_a_resent_input_gets_the_same_turn_and_starts_nothing(policy: str) -> None:
    """The copy is marked and carries no number, so it makes no hole."""
    talk = Talk()
    talk.ask()
    turn = talk.ask(id="i", on_busy=policy)  # type: ignore[arg-type]
    mark = talk.mark()
    again = talk.ask(id="i", on_busy=policy)  # type: ignore[arg-type]
    answer = talk.events[mark]
    assert isinstance(answer, (InputAccepted, InputQueued))
    assert talk.events[mark:] == [answer]
    assert (answer.turn_id, answer.duplicate, answer.seq) == (turn, True, 0)
    assert again == turn


def test_a_resent_input_that_was_rejected_stays_rejected() -> None:
    """Also when nothing runs any more: the id has its answer."""
    talk = Talk()
    running = talk.ask()
    talk.ask(id="i", on_busy="reject")
    talk.finish(running)
    talk.ask(id="i", on_busy="reject")
    assert [event.duplicate for event in talk.of(InputRejected)] == [False, True]
    assert len(talk.of(TurnStarted)) == 1


def test_an_id_of_an_input_is_no_id_for_an_interrupt() -> None:
    """Ids share one space; the other use is an error and does nothing."""
    talk = Talk()
    turn = talk.ask(id="same")
    talk.send(Interrupt(id=InterruptId("same"), turn_id=turn))
    assert [event.code for event in talk.of(ErrorEvent)] == ["id_reused"]
    talk.interrupt(turn, id="other")
    talk.send(InputText(id=InputId("other"), text="x"))
    assert [event.code for event in talk.of(ErrorEvent)] == ["id_reused"] * 2
    assert len(talk.of(InterruptResult)) == 1


def test_the_last_1024_ids_are_remembered() -> None:
    """The 1024th newest is still a duplicate, the one before it is new."""
    talk = Talk()
    talk.interrupt("t99", id="first")  # type: ignore[arg-type]
    for n in range(1023):
        talk.interrupt("t99", id=f"n{n}")  # type: ignore[arg-type]
    assert talk.interrupt("t99", id="first").duplicate  # type: ignore[arg-type]
    talk.interrupt("t99", id="one more")  # type: ignore[arg-type]
    assert not talk.interrupt("t99", id="first").duplicate  # type: ignore[arg-type]


def test_reject_and_a_full_queue_say_why() -> None:
    """`reject` while a turn runs is `busy`; beyond the bound of the queue it is `queue_full`."""
    talk = Talk(max_queued_inputs=2)
    talk.ask()
    talk.ask(on_busy="reject")
    for _ in range(3):
        talk.ask(on_busy="queue")
    assert [event.code for event in talk.of(InputRejected)] == ["busy", "queue_full"]
    assert [event.position for event in talk.of(InputQueued)] == [1, 2]


def test_queued_inputs_run_in_order_one_after_another() -> None:
    """The next starts in the step in which the one before it ends."""
    talk = Talk()
    turns = [talk.ask(), talk.ask(on_busy="queue"), talk.ask(on_busy="queue")]
    for n, turn in enumerate(turns):
        assert talk.started() == turns[: n + 1]
        talk.finish(turn)
    assert [event.turn_id for event in talk.of(TurnEnded)] == turns


def test_inputs_are_rejected_while_the_server_stops() -> None:
    """`shutting_down` tells the client to try elsewhere, or later."""
    talk = Talk()
    talk.session.shut_down(talk.now)
    talk.ask()
    assert talk.of(InputRejected)[0].code == "shutting_down"
