"""Contract 11 and the rules of resume: nothing is lost, doubled or reordered when the line drops."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bargein_protocol import (
    ErrorEvent,
    Heartbeat,
    InputAccepted,
    InputId,
    InputText,
    Interrupt,
    InterruptId,
    InterruptResult,
    PendingEvent,
    ReplayDone,
    SessionClose,
    SessionUpdate,
    Snapshot,
    TextDelta,
    Token,
    TurnEnded,
    TurnHold,
    TurnId,
)
from bargein_server.core import CloseConnection, Expire
from core_driver import Talk


def resume(talk: Talk, cursor: int, pending: Sequence[PendingEvent] = ()) -> list[str]:
    """Resume and return the types of what came."""
    mark = talk.mark()
    talk.attach(cursor=cursor, pending=pending)
    return talk.types(mark)


def test_a_dropped_line_is_not_an_interrupt() -> None:
    """The turn goes on, is logged, and is replayed whole."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "a")
    talk.detach()
    assert talk.emit(turn, "b")
    types = resume(talk, 3)
    assert types == ["session.opened", "text.delta", "replay.done"]
    assert talk.opened().turn_id == turn
    assert talk.opened().resumed
    talk.emit(turn, "c")
    talk.finish(turn)
    assert [event.text for event in talk.of(TextDelta)] == ["a", "b", "c"]
    assert talk.numbers() == [1, 2, 3, 4, 5, 6]


def test_what_waited_when_the_line_dropped_goes_to_the_log() -> None:
    """Nothing of it is lost."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, "waiting")
    talk.detach()
    talk.open = True
    resume(talk, 2)
    assert [event.text for event in talk.of(TextDelta)] == ["waiting"]


def test_a_turn_can_complete_while_its_client_is_away() -> None:
    """Its end is in the replay, and the next queued input has run."""
    talk = Talk()
    turn, queued = talk.ask(), talk.ask(on_busy="queue")
    talk.detach()
    talk.finish(turn)
    talk.finish(queued)
    resume(talk, 3)
    assert [event.turn_id for event in talk.of(TurnEnded)] == [turn, queued]


def test_an_empty_replay_is_over_at_once() -> None:
    """The cursor was up to date."""
    talk = Talk()
    turn = talk.ask()
    talk.detach()
    assert resume(talk, 2) == ["session.opened", "replay.done"]
    assert talk.of(ReplayDone)[-1].through == 2
    assert talk.emit(turn, "live")


def test_live_output_waits_until_the_replay_is_done() -> None:
    """The line is slow: what is yielded meanwhile comes after, in order."""
    talk = Talk()
    turn = talk.ask()
    talk.detach()
    talk.emit(turn, *"abc")
    talk.open = False
    mark = talk.mark()
    talk.attach(cursor=0)
    talk.emit(turn, "d")
    assert talk.types(mark) == ["session.opened"]
    talk.open = True
    talk.flush()
    assert talk.types(mark)[-2:] == ["replay.done", "text.delta"]
    assert talk.numbers()[-6:] == [1, 2, 3, 4, 5, 6]


def test_an_interrupt_during_the_replay_is_answered_at_once_and_its_end_keeps_its_place() -> None:
    """The answer overtakes; the numbered end comes after the replayed output."""
    talk = Talk()
    turn = talk.ask()
    talk.detach()
    talk.emit(turn, *"abc")
    talk.open = False
    mark = talk.mark()
    talk.attach(cursor=2)
    talk.emit(turn, "never numbered")
    talk.interrupt(turn)
    assert talk.types(mark) == ["session.opened", "interrupt.result"]
    talk.open = True
    talk.flush()
    assert talk.types(mark)[2:] == ["text.delta"] * 3 + ["turn.ended", "replay.done"]


def test_pending_is_applied_before_the_replay() -> None:
    """An interrupt made offline ends the turn before stale output is shown."""
    talk = Talk()
    turn = talk.ask()
    talk.detach()
    talk.emit(turn, "stale")
    pending: list[PendingEvent] = [
        Interrupt(id=InterruptId("x"), turn_id=turn),
        InputText(id=InputId("i"), text="next"),
    ]
    types = resume(talk, 2, pending)
    assert types == [
        "session.opened", "interrupt.result", "text.delta", "turn.ended", "input.accepted", "turn.started",
        "replay.done",
    ]  # fmt: skip
    assert talk.numbers() == list(range(1, len(talk.numbers()) + 1))


def test_what_was_applied_before_the_line_dropped_is_answered_again() -> None:
    """The answers were lost on the line; the copies are marked and nothing happens twice."""
    talk = Talk()
    turn = talk.ask(id="i")
    talk.interrupt(turn, id="x")
    talk.detach()
    pending: list[PendingEvent] = [
        InputText(id=InputId("i"), text="hello"),
        Interrupt(id=InterruptId("x"), turn_id=turn),
    ]
    types = resume(talk, 0, pending)
    assert types[:3] == ["session.opened", "input.accepted", "interrupt.result"]
    assert talk.of(InterruptResult)[-1].duplicate
    assert len([e for e in talk.of(TurnEnded) if e.turn_id == turn]) == 2  # live, and in the replay
    assert talk.started() == [turn]


def test_a_refused_resume_applies_nothing_of_pending() -> None:
    """Each gets `session_lost`, retryable; the session is a fresh one."""
    talk = Talk()
    talk.detach()
    pending: list[PendingEvent] = [Interrupt(id=InterruptId("x")), InputText(id=InputId("i"), text="next")]
    mark = talk.mark()
    talk.attach(pending=pending, refused="unknown_session")
    assert talk.types(mark) == ["session.opened", "error", "error"]
    assert (talk.opened().resumed, talk.opened().reason) == (False, "unknown_session")
    assert [(e.code, e.ref_id, e.retryable) for e in talk.of(ErrorEvent)] == [
        ("session_lost", "x", True),
        ("session_lost", "i", True),
    ]
    assert talk.started() == []


def test_beyond_the_log_a_snapshot_takes_the_place_of_the_replay() -> None:
    """It holds the turns as they stand; live output goes on after it."""
    talk = Talk(max_log_events=16)
    first = talk.ask("one")
    talk.emit(first, "done")
    talk.finish(first)
    turn = talk.ask("two")
    talk.detach()
    talk.emit(turn, *(f"{n} " for n in range(50)))
    mark = talk.mark()
    types = resume(talk, 4)
    assert types == ["session.opened", "snapshot", "replay.done"]
    snapshot = talk.of(Snapshot)[-1]
    assert [folded.turn_id for folded in snapshot.turns] == [turn]
    assert snapshot.turns[0].lanes[""].text == "".join(f"{n} " for n in range(50))
    talk.emit(turn, "live")
    live = [event.seq for event in talk.events[mark:] if isinstance(event, TextDelta)]
    assert live == [snapshot.through + 1]
    talk.interrupt(turn)
    assert talk.end_of(turn).heard.text.endswith("49 live")


def test_a_replay_that_the_log_overtakes_becomes_a_snapshot() -> None:
    """The client reads so slowly that its place in the log is trimmed away."""
    talk = Talk(max_log_events=16)
    turn = talk.ask()
    talk.detach()
    talk.emit(turn, *"abcdef")
    talk.open = False
    mark = talk.mark()
    talk.attach(cursor=2)
    for _ in range(10):
        talk.interrupt(turn)
        turn = talk.ask()
    talk.open = True
    talk.flush()
    assert "snapshot" in talk.types(mark)
    assert talk.types(mark)[-1] == "replay.done"


@pytest.mark.parametrize(
    ("token", "epoch", "seq", "reason"),
    [
        ("token1", "e", 2, None),
        ("wrong", "e", 2, "bad_token"),
        ("token1", "other", 2, "epoch_changed"),
        ("token1", "e", 3, "cursor_ahead"),
    ],
)
def test_resume_is_proven_whole_or_refused(token: str, epoch: str, seq: int, reason: str | None) -> None:
    """Each reason by name."""
    talk = Talk()
    talk.ask()
    talk.detach()
    assert talk.session.refusal(talk.resume(Token(token), seq, epoch), talk.now) == reason


def test_a_token_is_replaced_and_the_old_one_stays_good_until_the_next_frame() -> None:
    """A lost `session.opened` locks nobody out; after a frame, or a minute, only the new one counts."""
    talk = Talk()
    first = talk.opened().token
    talk.detach()
    second = talk.attach(cursor=0)

    def good(token: Token, later: float = 0.0) -> bool:
        return talk.session.refusal(talk.resume(token), talk.now + later) is None

    assert good(first)
    assert good(second)
    assert good(first, 60)
    assert not good(first, 60.1)
    talk.send(SessionUpdate(metadata={}))
    assert not good(first)
    assert good(second)


def test_a_turn_without_a_client_is_interrupted_after_two_minutes() -> None:
    """`client_gone`; what waits ends with it."""
    talk = Talk(no_output_s=1000)
    turn, queued = talk.ask(), talk.ask(on_busy="queue")
    talk.detach()
    talk.wait(119)
    assert talk.emit(turn, "still here")
    talk.wait(2)
    assert not talk.emit(turn, "gone")
    talk.attach(cursor=0)
    assert [talk.end_of(t).reason for t in (turn, queued)] == ["client_gone"] * 2


def test_coming_back_in_time_lets_the_turn_go_on() -> None:
    """The time starts anew with the next loss."""
    talk = Talk(no_output_s=1000)
    turn = talk.ask()
    for _ in range(3):
        talk.detach()
        talk.wait(100)
        talk.attach(cursor=0)
    assert talk.emit(turn, "still here")


def test_a_session_nobody_comes_back_for_is_forgotten() -> None:
    """Five minutes after the loss, when no turn runs; once."""
    talk = Talk()
    talk.detach()
    talk.wait(299)
    assert talk.commands == []
    talk.wait(1000)
    assert talk.commands == [Expire()]


def test_a_closed_session_cannot_be_resumed() -> None:
    """`session.close` ends it for good."""
    talk = Talk()
    talk.send(SessionClose())
    assert [type(command) for command in talk.commands] == [CloseConnection, Expire]
    assert talk.session.refusal(talk.resume(talk.opened().token), talk.now) == "unknown_session"


def test_a_silent_session_sends_heartbeats_with_what_the_agent_does() -> None:
    """At most `heartbeat_s` passes without a frame."""
    talk = Talk(heartbeat_s=10, no_output_s=1000)
    turn = talk.ask()
    gap = 0.0
    for _ in range(100):
        mark = talk.mark()
        talk.wait(1)
        gap = 0.0 if talk.mark() > mark else gap + 1
        assert gap <= 10
    assert len(talk.of(Heartbeat)) >= 10
    assert talk.interrupt(turn).outcome == "interrupted"


def test_a_busy_session_sends_none() -> None:
    """Any frame is a sign of life."""
    talk = Talk(heartbeat_s=10)
    turn = talk.ask()
    for n in range(100):
        talk.wait(1)
        talk.emit(turn, str(n))
    assert talk.of(Heartbeat) == []


def test_a_hold_of_a_turn_that_is_unknown_after_a_resume_is_an_error() -> None:
    """Errors are answers to the attached client and are not replayed."""
    talk = Talk()
    talk.send(TurnHold(turn_id=TurnId("t9")))
    talk.detach()
    assert resume(talk, 0) == ["session.opened", "replay.done"]


def test_a_snapshot_holds_every_turn_that_has_not_ended() -> None:
    """Also one that has no event after the cursor: the client would take a missing turn for lost."""
    talk = Talk(max_log_events=16)
    turn = talk.ask()
    waiting = talk.ask(on_busy="queue")
    talk.detach()
    talk.emit(turn, *(f"{n} " for n in range(50)))
    talk.attach(cursor=3)
    [snapshot] = talk.of(Snapshot)
    assert [(folded.turn_id, folded.started) for folded in snapshot.turns] == [(turn, True), (waiting, False)]


def test_a_client_that_lost_two_answers_in_a_row_is_not_locked_out() -> None:
    """The token that it confirmed stays good until its next frame, whatever was sent meanwhile."""
    talk = Talk()
    known = talk.opened().token
    talk.send(SessionUpdate(metadata={}))
    for _ in range(3):
        talk.detach()
        assert talk.session.refusal(talk.resume(known), talk.now) is None
        talk.attach(cursor=0, shown=known)


def test_what_a_broken_line_swallowed_was_not_heard() -> None:
    """The cursor proves what arrived; an interrupt that comes with the resume is cut there."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "arrived ", "lost ", "lost too")
    talk.detach()
    talk.attach(cursor=3, pending=[Interrupt(id=InterruptId("x"), turn_id=turn)])
    assert talk.end_of(turn).heard.text == "arrived "


def test_an_input_whose_turn_is_forgotten_before_its_answer_was_read_is_answered_all_the_same() -> None:
    """Many inputs of one resume overran the log and the memory: each has one answer, before the snapshot."""
    talk = Talk(max_log_events=16, max_history_turns=4)
    talk.detach()
    pending: list[PendingEvent] = [InputText(id=InputId(f"i{n}"), text="x") for n in range(20)]
    mark = talk.mark()
    types = resume(talk, 0, pending)
    [snapshot] = talk.of(Snapshot)
    answers = [event for event in talk.events[mark:] if isinstance(event, InputAccepted)]
    assert all(answer.duplicate and not answer.seq for answer in answers)
    told = [answer.input_id for answer in answers] + [folded.input_id for folded in snapshot.turns]
    assert sorted(map(str, told)) == sorted(event.id for event in pending)
    assert types[-2:] == ["snapshot", "replay.done"]


def test_a_turn_that_is_done_ends_when_the_line_is_lost() -> None:
    """What waited goes to the log, so the next input's turn starts while the client is away."""
    talk = Talk()
    turn, waiting = talk.ask(), talk.ask(on_busy="queue")
    talk.open = False
    talk.emit(turn, "waiting")
    talk.finish(turn)
    assert talk.started() == [turn]
    talk.detach()
    assert talk.started() == [turn, waiting]


def test_what_a_snapshot_tells_counts_as_taken() -> None:
    """As a replay does: without reports it is heard."""
    talk = Talk(max_log_events=16)
    turn = talk.ask()
    talk.detach()
    talk.emit(turn, *(f"{n} " for n in range(50)))
    talk.attach(cursor=2)
    talk.interrupt(turn)
    assert talk.end_of(turn).heard.text.endswith("48 49 ")
