"""Contract 1: an accepted input gets exactly one `turn.ended`, whatever happens."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    InputAccepted,
    Played,
    SessionClose,
    TextDelta,
    TurnEnded,
    TurnHold,
    TurnStarted,
    Usage,
)
from bargein_server.core.lifecycle import Misuse
from bargein_server.core.turn_record import Ending
from core_driver import Talk


def test_a_turn_that_completes_ends_once_with_what_was_heard() -> None:
    """Completion: accepted, started, output, one end with status, reason, last_seq and heard."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "Hel", "lo")
    talk.finish(turn)
    assert talk.types() == [
        "session.opened", "input.accepted", "turn.started", "text.delta", "text.delta", "turn.ended",
    ]  # fmt: skip
    end = talk.end_of(turn)
    assert (end.status, end.reason, end.last_seq, end.retryable) == ("completed", "completed", 4, False)
    assert (end.heard.seq, end.heard.text) == (4, "Hello")
    assert talk.numbers() == [1, 2, 3, 4, 5]


def test_an_agent_error_ends_the_turn_after_its_output() -> None:
    """What was yielded before the failure is written, then comes the end."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "half")
    talk.finish(turn, Ending("failed", "agent_error"))
    talk.open = True
    talk.flush()
    assert talk.types()[-2:] == ["text.delta", "turn.ended"]
    assert (talk.end_of(turn).status, talk.end_of(turn).reason) == ("failed", "agent_error")


def test_a_returned_agent_is_finishing_until_its_end_is_written() -> None:
    """A turn whose generator returned can still be interrupted, and then ends so, once."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "never written")
    talk.finish(turn)
    assert talk.of(TurnEnded) == []
    assert talk.interrupt(turn).outcome == "interrupted"
    talk.open = True
    talk.flush()
    assert talk.end_of(turn).status == "interrupted"
    assert talk.of(TextDelta) == []
    assert talk.cancelled() == []  # there is no task any more to cancel


def test_a_finishing_turn_can_be_held() -> None:
    """The end of a held turn waits for the hold."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "x")
    talk.finish(turn)
    talk.send(TurnHold(turn_id=turn))
    talk.open = True
    talk.flush()
    assert talk.types()[-1] == "turn.held"
    talk.wait(2)
    assert talk.types()[-3:] == ["turn.resumed", "text.delta", "turn.ended"]


def test_finish_after_an_interrupt_adds_no_second_end() -> None:
    """The runner may report what it likes after the fence."""
    talk = Talk()
    turn = talk.ask()
    talk.interrupt(turn)
    talk.finish(turn, Ending("failed", "agent_error"))
    talk.cleaned_up(turn)
    assert talk.end_of(turn).status == "interrupted"


def test_a_silent_agent_fails_with_no_output() -> None:
    """A turn that is pulled and yields nothing for the no-output time fails, its task is cancelled."""
    talk = Talk(no_output_s=30)
    turn = talk.ask()
    talk.wait(29.9)
    assert talk.of(TurnEnded) == []
    talk.wait(0.2)
    assert (talk.end_of(turn).status, talk.end_of(turn).reason) == ("failed", "no_output")
    assert talk.end_of(turn).retryable
    assert talk.cancelled() == [turn]


def test_a_model_at_work_needs_no_output() -> None:
    """A turn whose model shows signs of life goes on without output, and fails when they stop."""
    talk = Talk(no_output_s=30)
    turn = talk.ask()
    talk.session.model_works(turn, talk.now + 100)
    talk.wait(99.9)
    assert talk.of(TurnEnded) == []
    talk.wait(0.2)
    assert talk.end_of(turn).reason == "no_output"


def test_any_count_of_tokens_ends() -> None:
    """Counts beyond what a frame can hold are cut to it, and negative sums to nothing."""
    talk = Talk()
    turn = talk.ask()
    for tokens in (2**60, 2**60):
        talk.session.add_usage(turn, Usage(input_tokens=tokens, output_tokens=-tokens))
    usage = Usage(input_tokens=2**53 - 1, output_tokens=0)
    assert talk.session.turn(turn).usage == usage
    talk.finish(turn)
    assert talk.end_of(turn).usage == usage


def test_a_whole_turn_has_a_time() -> None:
    """With `turn_s`, a turn fails at that time although it has output; without it, it never does."""
    for turn_s, ends in ((100, ["timeout"]), (0, [])):
        talk = Talk(no_output_s=30, turn_s=turn_s)
        turn = talk.ask()
        for _ in range(4):
            talk.wait(24.9)
            talk.emit(turn, "x")
        assert talk.of(TurnEnded) == []
        talk.wait(0.5)
        assert [end.reason for end in talk.of(TurnEnded)] == ends


def test_shutdown_ends_the_running_turn_and_those_that_wait() -> None:
    """Shutdown: every turn fails with `shutdown`, retryable."""
    talk = Talk()
    first, second = talk.ask(), talk.ask(on_busy="queue")
    talk.session.shut_down(talk.now)
    talk.flush()
    for turn in (first, second):
        assert (talk.end_of(turn).status, talk.end_of(turn).reason) == ("failed", "shutdown")
    assert talk.cancelled() == [first]


def test_session_close_ends_the_running_turn_and_those_that_wait() -> None:
    """`session.close`: every turn is interrupted with `session_closed`."""
    talk = Talk()
    first, second = talk.ask(), talk.ask(on_busy="queue")
    talk.send(SessionClose())
    assert [talk.end_of(turn).reason for turn in (first, second)] == ["session_closed"] * 2


def test_a_queued_turn_that_is_interrupted_ends_without_a_start() -> None:
    """An interrupt reaches a turn that waits; it never starts."""
    talk = Talk()
    first, second = talk.ask(), talk.ask(on_busy="queue")
    assert talk.interrupt(second).outcome == "interrupted"
    assert talk.end_of(second).status == "interrupted"
    talk.finish(first)
    assert talk.started() == [first]
    assert [event.turn_id for event in talk.of(TurnStarted)] == [first]


def test_every_accepted_input_has_exactly_one_end_when_inputs_come_in_bursts() -> None:
    """A burst of inputs, each interrupting the one before: as many ends as answers."""
    talk = Talk()
    turns = [talk.ask(f"number {n}") for n in range(20)]
    started = talk.settings.max_overlapping_cleanups + 1  # then so many cleanups were under way
    for turn in turns[:started]:
        talk.cleaned_up(turn)
    talk.finish(turns[-1])
    assert len(talk.of(InputAccepted)) == 20
    assert [event.turn_id for event in talk.of(TurnEnded)] == turns
    assert talk.started() == [*turns[:started], turns[-1]]


def test_an_end_tells_the_position_that_the_interrupt_reported() -> None:
    """`heard` of the end is what is known at that time: the interrupt's own report."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "one ", "two ", "three ")
    talk.interrupt(turn, played=Played(chars=5))
    assert talk.end_of(turn).heard.text == "one t"


def test_misuse_by_the_shell_raises_and_changes_nothing() -> None:
    """A turn that waits cannot be finished; nothing has changed."""
    talk = Talk()
    talk.ask()
    second = talk.ask(on_busy="queue")
    before = talk.mark()
    with pytest.raises(Misuse, match="can't finish turn t2 when it is queued"):
        talk.session.finish(second, Ending("completed", "completed"), talk.now)
    talk.flush()
    assert talk.mark() == before
