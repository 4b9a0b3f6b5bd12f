"""Contracts 2 and 3: after an accepted interrupt no frame of the turn but its end, and that at once."""

from __future__ import annotations

from bargein_protocol import (
    InterruptResult,
    Output,
    Status,
    TextDelta,
    TurnEnded,
    TurnEvent,
)
from core_driver import Talk


def test_what_waited_is_purged() -> None:
    """Output that was yielded and not written is never numbered or written."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "written")
    talk.open = False
    talk.emit(turn, "waiting", Status(message="waiting too"))
    talk.interrupt(turn)
    talk.open = True
    talk.flush()
    assert [event.text for event in talk.of(TextDelta)] == ["written"]
    assert talk.of(Status) == []


def test_what_is_purged_is_not_kept() -> None:
    """An ended turn holds no output that nobody will ever read."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "waiting", Status(message="waiting too"))
    talk.interrupt(turn)
    ended = talk.session.turn(turn)
    assert (ended.queued_bytes, ended.take()) == (0, None)


def test_a_purge_leaves_no_hole() -> None:
    """Numbers are contiguous across a purge, because nothing is numbered before it is handed over."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, *"abcdefgh")
    talk.interrupt(turn)
    talk.open = True
    after = talk.ask()
    talk.emit(after, "next")
    talk.finish(after)
    assert talk.numbers() == list(range(1, len(talk.numbers()) + 1))


def test_an_agent_that_goes_on_yielding_reaches_nobody() -> None:
    """Output after the fence is refused and changes nothing, also in the next turn's time."""
    talk = Talk()
    turn = talk.ask()
    talk.interrupt(turn)
    after = talk.ask()
    assert not talk.emit(turn, "stale")
    talk.emit(after, "fresh")
    assert [(event.turn_id, event.text) for event in talk.of(TextDelta)] == [(after, "fresh")]


def test_an_unknown_turn_cannot_send() -> None:
    """Output for a turn that never was is refused."""
    talk = Talk()
    talk.ask()
    assert not talk.emit("t99", "stale")  # type: ignore[arg-type]


def test_the_last_event_of_a_turn_is_its_end() -> None:
    """Nothing with the turn's id follows `turn.ended`."""
    talk = Talk()
    for _ in range(5):
        turn = talk.ask()
        talk.emit(turn, "x", "y")
        talk.interrupt(turn)
        talk.emit(turn, "z")
        talk.cleaned_up(turn)
        of_turn = [event for event in talk.events if isinstance(event, TurnEvent) and event.turn_id == turn]
        assert isinstance(of_turn[-1], TurnEnded)
        assert sum(isinstance(event, TurnEnded) for event in of_turn) == 1


def test_result_and_end_are_ready_in_the_step_of_the_interrupt() -> None:
    """The answer, then the end, with nothing between, before the agent did anything."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "x")
    mark = talk.mark()
    talk.interrupt(turn)
    assert talk.types(mark) == ["interrupt.result", "turn.ended"]
    assert talk.cancelled() == [turn]


def test_result_and_end_pass_a_full_buffer() -> None:
    """They do not wait for a line that takes no output."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "x" * 1000)
    mark = talk.mark()
    talk.interrupt(turn)
    assert talk.types(mark) == ["interrupt.result", "turn.ended"]


def test_superseding_ends_the_old_turn_before_the_new_one_is_accepted() -> None:
    """An input that interrupts: the old end, the new turn, in this order and in one step."""
    talk = Talk()
    old = talk.ask()
    talk.emit(old, "x")
    mark = talk.mark()
    new = talk.ask("next")
    assert talk.types(mark) == ["turn.ended", "input.accepted", "turn.started"]
    assert talk.end_of(old).reason == "superseded"
    assert talk.started() == [old, new]


def test_the_end_names_the_last_number_of_the_turn() -> None:
    """`last_seq` is the turn's last number before its end, which is the fence for clients."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "a", "b")
    talk.interrupt(turn)
    last = [event for event in talk.events if isinstance(event, Output)][-1]
    assert talk.end_of(turn).last_seq == last.seq == 4


def test_the_interrupts_own_reason_is_the_reason_of_the_end() -> None:
    """Without a reason it is `client`."""
    talk = Talk()
    first = talk.ask()
    talk.interrupt(first, reason="barge_in")
    second = talk.ask()
    talk.interrupt(second)
    assert [talk.end_of(turn).reason for turn in (first, second)] == ["barge_in", "client"]
    assert all(isinstance(event.heard, type(None)) for event in talk.of(InterruptResult))


def test_output_after_the_agent_returned_reaches_nobody() -> None:
    """Its generator is done; a child task that emits comes too late, though the end still waits."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "said")
    talk.finish(turn)
    assert not talk.emit(turn, "stale")
    talk.open = True
    talk.flush()
    assert [event.text for event in talk.of(TextDelta)] == ["said"]
