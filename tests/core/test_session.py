"""The session: what is left when the rules of the contract have their own tests."""

from __future__ import annotations

import pytest

from bargein_protocol import (
    MAX_PENDING,
    CallId,
    Data,
    Heartbeat,
    InputId,
    InputText,
    Numbered,
    PendingEvent,
    Ping,
    Pong,
    ReplayDone,
    SessionClose,
    SessionOpened,
    Status,
    TextDelta,
    ToolResult,
    ToolRunning,
    TurnEnded,
    TurnHeld,
    TurnHold,
    TurnId,
    Usage,
)
from bargein_protocol.errors import BAD_EVENT
from bargein_server.core import StartTurn
from bargein_server.core.turn_record import Ending
from core_driver import Talk


def test_the_opening_tells_the_limits() -> None:
    """What the server reads, how much may be unanswered and wait, and its longest silence."""
    talk = Talk(max_frame_bytes=2048, max_queued_inputs=3, heartbeat_s=2.5)
    opened = talk.opened()
    assert (opened.limits.frame_bytes, opened.limits.pending, opened.limits.queued) == (2048, MAX_PENDING, 3)
    assert (opened.heartbeat_ms, opened.turn_id, opened.resumed) == (2500, None, False)


def test_inputs_that_come_with_a_fresh_opening_are_its_first_events() -> None:
    """Without `resume`, `pending` is applied to the fresh session."""
    talk = Talk()
    mark = talk.mark()
    pending: list[PendingEvent] = [InputText(id=InputId("i"), text="x")]
    talk.attach(pending=pending)
    assert talk.types(mark) == ["session.opened", "input.accepted", "turn.started"]


def test_output_fills_the_queue_to_its_bound() -> None:
    """Then the agent is not pulled, until the line has taken some."""
    talk = Talk(max_queued_output_bytes=1024)
    turn = talk.ask()
    talk.open = False
    full = []
    for output in ("x" * 959, Data(name="d", value=None)):
        talk.emit(turn, output)
        full.append(talk.session.full)
    talk.open = True
    talk.flush()
    assert [*full, talk.session.full] == [False, True, False]


def test_a_session_without_a_turn_is_not_full() -> None:
    """Whoever waits to pull an ended turn's agent must find out that it ended."""
    talk = Talk(max_queued_output_bytes=1024)
    assert not talk.session.full
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "x" * 2000)
    talk.interrupt(turn)
    assert not talk.session.full


def test_usage_adds_up_and_is_told_at_the_end() -> None:
    """What comes after the end, or for a turn that is none, is ignored."""
    talk = Talk()
    turn = talk.ask()
    for tokens in (1, 2):
        talk.session.add_usage(turn, Usage(input_tokens=tokens, output_tokens=10 * tokens))
    talk.finish(turn)
    talk.session.add_usage(turn, Usage(input_tokens=100))
    talk.session.add_usage(TurnId("t99"), Usage(input_tokens=100))
    assert talk.end_of(turn).usage == Usage(input_tokens=3, output_tokens=30)


def test_a_turn_whose_tool_works_is_not_blamed_for_silence() -> None:
    """The time counts from the tool's result."""
    talk = Talk(no_output_s=30)
    turn = talk.ask()
    talk.emit(turn, ToolRunning(call_id=CallId("c"), arguments={}))
    talk.wait(100)
    assert talk.of(TurnEnded) == []
    talk.emit(turn, ToolResult(call_id=CallId("c"), status="completed"))
    talk.wait(29)
    assert talk.of(TurnEnded) == []
    talk.wait(2)
    assert talk.end_of(turn).reason == "no_output"


def test_a_turn_whose_line_is_full_is_not_blamed_for_silence() -> None:
    """It is not pulled."""
    talk = Talk(no_output_s=30, max_queued_output_bytes=1024)
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "x" * 2000)
    talk.wait(100)
    assert talk.of(TurnEnded) == []
    talk.open = True
    talk.flush()
    talk.session.pulled(turn, talk.now)
    talk.wait(29)
    assert talk.of(TurnEnded) == []


def test_only_the_turn_that_runs_is_pulled() -> None:
    """An old runner's word changes nothing for the turn that runs now."""
    talk = Talk(no_output_s=30)
    old = talk.ask()
    new = talk.ask()
    talk.wait(20)
    talk.session.pulled(old, talk.now)
    talk.wait(11)
    assert talk.end_of(new).reason == "no_output"


def test_silence_starts_the_next_turn() -> None:
    """A turn that failed for it gives the floor to the one that waits."""
    talk = Talk(no_output_s=30)
    talk.ask()
    waiting = talk.ask(on_busy="queue")
    talk.wait(31)
    assert talk.started()[-1] == waiting


def test_a_heartbeat_says_what_the_agent_does() -> None:
    """The last status of the turn that runs; nothing when none runs."""
    talk = Talk(heartbeat_s=10, no_output_s=1000)
    talk.wait(11)
    turn = talk.ask()
    talk.emit(turn, Status(message="thinking"), Status(message="reading"))
    talk.wait(30)
    messages = [event.message for event in talk.of(Heartbeat)]
    assert messages[0] is None
    assert messages[-1] == "reading"


def test_nobody_is_sent_a_heartbeat_while_the_client_is_away() -> None:
    """And the silence counts anew from the next attach."""
    talk = Talk(heartbeat_s=10, no_output_s=1000)
    talk.ask()
    talk.detach()
    talk.wait(60)
    mark = talk.mark()
    talk.attach(cursor=0)
    talk.wait(4)
    assert "heartbeat" not in talk.types(mark)


def test_a_frame_that_could_not_be_decoded_is_answered() -> None:
    """With its code, the detail, and the id where it could be read."""
    talk = Talk()
    talk.session.reject_frame(BAD_EVENT, "expected a str, got an int", "i7")
    talk.flush()
    event = talk.events[-1]
    assert (event.code, event.message, event.ref_id) == ("bad_event", "expected a str, got an int", "i7")  # type: ignore[union-attr]


def test_a_full_line_gets_what_must_not_wait_and_the_replay_waits() -> None:
    """`session.opened` and answers pass; replayed frames are output."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "a", "b")
    talk.detach()
    talk.open = False
    mark = talk.mark()
    talk.attach(cursor=0)
    talk.send(Ping(id="p"))
    assert talk.types(mark) == ["session.opened", "pong"]
    talk.open = True
    talk.flush()
    assert isinstance(talk.events[-1], ReplayDone)


def test_a_second_client_that_replaces_the_first_has_a_whole_replay_of_its_own() -> None:
    """The first was in the middle of its replay, and is not told any more."""
    talk = Talk()
    turn = talk.ask()
    talk.detach()
    talk.emit(turn, *"abc")
    talk.open = False
    talk.attach(cursor=2)
    talk.open = True
    mark = talk.mark()
    talk.attach(cursor=0)
    assert talk.types(mark)[0] == "session.opened"
    assert [event.seq for event in talk.events[mark:] if isinstance(event, Numbered)] == [1, 2, 3, 4, 5]
    assert len([event for event in talk.events[mark:] if isinstance(event, SessionOpened)]) == 1


def test_a_hold_in_a_section_ends_with_it_though_the_client_is_away() -> None:
    """What waited for the section's end happens, also in the log."""
    talk = Talk()
    turn = talk.ask()
    talk.enter_section(turn)
    talk.send(TurnHold(turn_id=turn))
    talk.detach()
    talk.emit(turn, "inside")
    talk.leave_section(turn)
    talk.emit(turn, "after")
    talk.attach(cursor=0)
    assert len(talk.of(TurnHeld)) == 1
    assert [event.text for event in talk.of(TextDelta)] == ["inside"]


def test_an_agent_that_fails_while_the_client_is_away_starts_the_next_turn() -> None:
    """The end goes to the log and the floor passes on."""
    talk = Talk()
    turn, waiting = talk.ask(), talk.ask(on_busy="queue")
    talk.detach()
    talk.finish(turn, Ending("failed", "agent_error"))
    assert talk.started() == [turn, waiting]


def test_commands_are_given_once() -> None:
    """The shell drains them after every call."""
    talk = Talk()
    talk.session.receive(InputText(id=InputId("i"), text="x"), talk.now)
    assert [type(command) for command in talk.session.commands()] == [StartTurn]
    assert talk.session.commands() == []


def test_nothing_is_due_in_a_session_that_is_over() -> None:
    """The shell can forget it."""
    talk = Talk()
    talk.ask()
    assert talk.session.next_deadline() is not None
    talk.send(SessionClose())
    assert talk.session.next_deadline() is None


@pytest.mark.parametrize("away", [False, True])
def test_a_tick_that_comes_early_does_nothing(away: bool) -> None:
    """Whoever calls too soon is asked to come again at the same time."""
    talk = Talk()
    talk.ask()
    if away:
        talk.detach()
    mark, due = talk.mark(), talk.session.next_deadline()
    assert due is not None
    talk.session.tick(due - 0.001)
    talk.flush()
    assert talk.mark() == mark
    assert talk.session.next_deadline() == due


def test_a_ping_is_answered_at_once() -> None:
    """With its own id, on a full line too."""
    talk = Talk()
    talk.open = False
    talk.send(Ping(id="p1"))
    assert talk.of(Pong) == [Pong(id="p1")]
