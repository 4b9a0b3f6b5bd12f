"""A server runs so many turns at a time; others wait in one line, know their place, and start in order."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_protocol import Heartbeat, InputQueued, InputRejected, SessionClose, TurnEnded
from bargein_server.core.turn_limiter import TurnLimiter
from core_driver import Talk


def talks(number: int, most: int, waiting: int = 10, **settings: Any) -> list[Talk]:
    """Sessions of one server."""
    turn_limiter = TurnLimiter(most, waiting)
    return [Talk(turn_limiter, **settings) for _ in range(number)]


def test_a_turn_waits_for_a_slot_and_knows_its_place() -> None:
    """It has its id at once, and starts in the step after another's end."""
    first, second, third = talks(3, most=1)
    running = first.ask()
    waiting = second.ask()
    third.ask()
    assert first.started() == [running]
    assert [event.position for event in (*second.of(InputQueued), *third.of(InputQueued))] == [1, 2]
    assert second.started() == []
    first.emit(running, "done")
    first.finish(running)
    assert second.started() == [waiting]
    assert third.started() == []


@pytest.mark.parametrize("ending", ["interrupt", "close", "shut down"])
def test_every_end_gives_the_slot_back(ending: str) -> None:
    """However a turn ends, the next in the line starts."""
    first, second = talks(2, most=1)
    running, waiting = first.ask(), second.ask()
    if ending == "interrupt":
        first.interrupt(running)
    elif ending == "close":
        first.send(SessionClose())
    else:
        first.session.shut_down(first.now)
        first.flush()
    assert second.started() == [waiting]


def test_one_turn_more_than_the_line_holds_is_rejected() -> None:
    """With its code and when to come again; the same input may then be sent under another id."""
    *early, last, late = talks(4, most=1, waiting=2)
    for talk in (*early, last):
        talk.ask()
    late.ask()
    answers = [(event.code, event.retry_after_ms) for event in late.of(InputRejected)]
    assert answers == [("at_capacity", 5000)]
    assert last.of(InputRejected) == []


def test_whoever_barges_in_keeps_the_slot() -> None:
    """An input that ends its session's own turn is not put behind other sessions."""
    first, second = talks(2, most=1)
    first.ask()
    waiting = second.ask()
    again = first.ask()
    assert first.started()[-1] == again
    assert second.started() == []
    first.interrupt(again)
    assert second.started() == [waiting]


def test_whoever_barges_in_while_it_waits_keeps_its_place() -> None:
    """The input that waited ends as superseded, the new one stands where it stood."""
    first, second, third = talks(3, most=1)
    running = first.ask()
    old = second.ask()
    third.ask()
    new = second.ask()
    assert second.end_of(old).reason == "superseded"
    assert second.of(InputQueued)[-1].position == 1
    first.interrupt(running)
    assert second.started() == [new]


def test_a_session_with_many_inputs_does_not_keep_others_waiting() -> None:
    """Its next turn queues anew behind the sessions that wait."""
    first, second = talks(2, most=1)
    turn, after = first.ask(), first.ask(on_busy="queue")
    waiting = second.ask()
    first.finish(turn)
    assert second.started() == [waiting]
    assert first.started() == [turn]
    second.finish(waiting)
    assert first.started() == [turn, after]


def test_a_turn_that_waits_can_be_interrupted() -> None:
    """It leaves the line without a start."""
    first, second, third = talks(3, most=1)
    running = first.ask()
    waiting = second.ask()
    third.ask()
    second.interrupt(waiting)
    assert second.end_of(waiting).status == "interrupted"
    assert third.permit.position == 1
    first.finish(running)
    assert second.started() == []
    assert len(third.started()) == 1


def test_a_turn_waits_for_a_bounded_time() -> None:
    """Then it fails with `overload`, which says that it may be sent again."""
    first, second = talks(2, most=1, turn_wait_s=10, no_output_s=1000)
    first.ask()
    waiting = second.ask()
    second.wait(9.9)
    assert second.of(TurnEnded) == []
    second.wait(0.2)
    end = second.end_of(waiting)
    assert (end.status, end.reason, end.retryable) == ("failed", "overload", True)
    assert second.permit.position == 0


def test_a_client_that_waits_hears_how_the_line_moves() -> None:
    """Every two seconds, with its place."""
    first, second, third = talks(3, most=1, no_output_s=1000, turn_wait_s=1000)
    running = first.ask()
    waiting = second.ask()
    third.ask()
    third.wait(2.1)
    second.interrupt(waiting)
    third.wait(2.1)
    first.finish(running)
    third.wait(20)
    assert [beat.position for beat in third.of(Heartbeat)][:3] == [2, 1, None]
