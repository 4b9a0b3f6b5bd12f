"""The client without a socket: numbering, answers, interrupts, resume."""

from __future__ import annotations

import pytest

import bargein_protocol as bp
from bargein_client.errors import ServerViolation, TooLarge, TooManyPending
from bargein_client.events import EventsLost, SessionRestarted, SessionResumed, TurnSnapshot
from bargein_client.phases import Phase
from client_script import (
    Client,
    accepted,
    drain,
    ended,
    kinds,
    opened,
    queued,
    replay_done,
    result,
    said,
    session_lost,
    started,
    text,
)

# --- numbering ---------------------------------------------------------------------------------------


def test_events_come_out_in_order() -> None:
    """What the server numbered is delivered in its order, to the turn and to every subscriber."""
    client = Client().open()
    turn = client.running("one ", "two ")
    client.take(ended(5, "t_1"))
    events = drain(turn.inbox)
    assert kinds(events) == ["InputAccepted", "TurnStarted", "TextDelta", "TextDelta", "TurnEnded"]
    assert events == drain(client.everything)
    assert turn.ended == ended(5, "t_1")
    assert str(turn.fold.voice.text) == "one two "


def test_duplicates_are_dropped() -> None:
    """A number that was seen is ignored and counted."""
    client = Client().open()
    turn = client.running("one ")
    client.take(text(3, "t_1", "one "), text(2, "t_1", "zero "))
    assert said(drain(turn.inbox)) == "one "
    assert client.core.duplicates == 2


def test_a_hole_is_a_violation_and_changes_nothing() -> None:
    """A number too far means a lost line: nothing is taken, so the session can be resumed before it."""
    client = Client().open()
    turn = client.running("one ")
    with pytest.raises(ServerViolation):
        client.take(text(5, "t_1", "three "))
    assert client.core.last_seq == 3
    assert client.reopen().resume == bp.Resume(
        session_id=bp.SessionId("s_1"),
        token=bp.Token("k_1"),
        cursor=bp.Cursor(epoch=bp.Epoch("e_1"), seq=bp.Seq(3)),
    )
    client.take(text(4, "t_1", "two "), text(5, "t_1", "three "), replay_done(5))
    assert said(drain(turn.inbox)) == "one two three "


def test_a_gap_that_a_resume_does_not_fill_is_reported_and_accepted() -> None:
    """The client neither waits for ever nor hides what it does not know."""
    client = Client().open()
    client.running("one ")
    with pytest.raises(ServerViolation):
        client.take(text(6, "t_1", "four "))
    client.reopen()
    client.take(text(6, "t_1", "four "), replay_done(6))
    assert EventsLost(count=2) in drain(client.everything)
    assert client.core.last_seq == 6


def test_a_replay_that_stops_early_is_a_hole() -> None:
    """`replay.done` names the last number, and a replay must reach it."""
    client = Client().open()
    client.running("one ")
    client.reopen()
    with pytest.raises(ServerViolation):
        client.take(replay_done(4))


@pytest.mark.parametrize(
    "event",
    [text(1, "t_1", "x"), replay_done(0), bp.Snapshot(seq=bp.Seq(1), turns=[])],
    ids=["numbered", "replay.done", "snapshot"],
)
def test_nothing_comes_before_session_opened(event: bp.ServerEvent) -> None:
    """A line is opened before anything of the session comes over it."""
    client = Client()
    client.core.attach()
    with pytest.raises(ServerViolation):
        client.take(event)


@pytest.mark.parametrize(
    "event",
    [opened(), replay_done(0), bp.Snapshot(seq=bp.Seq(9), turns=[]), text(0, "t_1", "x"), text(1, "", "x")],
    ids=["opened twice", "replay.done", "snapshot", "no number", "no turn"],
)
def test_out_of_place_on_a_live_line(event: bp.ServerEvent) -> None:
    """What the table of phases does not allow is refused."""
    client = Client().open()
    with pytest.raises(ServerViolation):
        client.take(event)


def test_a_resumed_session_keeps_its_epoch() -> None:
    """Numbers of another epoch would mean something else."""
    client = Client().open()
    client.core.detach()
    client.core.attach()
    with pytest.raises(ServerViolation):
        client.take(opened(resumed=True, epoch="e_2"))


def test_nothing_of_a_turn_comes_after_its_end() -> None:
    """A turn has one end (contract 1)."""
    client = Client().open()
    client.running()
    client.take(ended(3, "t_1"))
    with pytest.raises(ServerViolation):
        client.take(ended(4, "t_1"))


def test_events_of_a_lost_line_are_dropped() -> None:
    """What still arrives from a line that is gone is ignored; it comes again on the next one."""
    client = Client().open()
    turn = client.running()
    client.core.detach()
    client.take(text(3, "t_1", "late"))
    assert said(drain(turn.inbox)) == ""
    assert client.core.last_seq == 2


def test_an_unknown_type_counts_its_number() -> None:
    """A newer server's events do no harm and leave no hole."""
    client = Client().open()
    turn = client.running()
    client.take(bp.UnknownEvent(kind="x.y", seq=bp.Seq(3), turn_id=bp.TurnId("t_1")), text(4, "t_1", "on"))
    assert said(drain(turn.inbox)) == "on"


# --- answers -----------------------------------------------------------------------------------------


def test_each_answer_comes_out_once() -> None:
    """Answers and ends are handed over under the id of what asked for them."""
    client = Client().open()
    client.running()
    client.take(ended(3, "t_1"))
    assert client.core.outcomes() == [("in_1", accepted(1, "t_1", "in_1")), ("in_1", ended(3, "t_1"))]
    assert client.core.outcomes() == []


def test_a_rejected_input_has_no_turn() -> None:
    """The rejection is the answer, and nothing is in flight afterwards."""
    client = Client().open()
    client.ask(on_busy="reject")
    rejected = bp.InputRejected(input_id=bp.InputId("in_1"), code="busy")
    client.take(rejected)
    assert client.core.outcomes() == [("in_1", rejected)]
    assert len(client.core.turns) == 0


def test_an_error_about_a_request_is_its_answer() -> None:
    """A request that the server could not read is not waited for."""
    client = Client().open()
    client.ask()
    error = bp.ErrorEvent(code="bad_event", message="no", ref_id="in_1")
    client.take(error)
    assert client.core.outcomes() == [("in_1", error)]
    client.take(error)
    assert client.core.outcomes() == []


def test_too_many_unanswered_requests() -> None:
    """At most 64 requests wait; one more is refused and nothing has changed."""
    client = Client().open()
    for _ in range(64):
        turn = client.ask()
    with pytest.raises(TooManyPending) as caught:
        client.ask()
    assert caught.value.limit == 64
    with pytest.raises(TooManyPending):
        client.interrupt(turn)
    assert not turn.muted
    assert len(client.core.outgoing()) == len(client.core.turns) == 64


def test_a_smaller_limit_of_the_server_counts() -> None:
    """`limits.pending` may be below 64."""
    client = Client().open(opened(limits=bp.Limits(frame_bytes=262_144, pending=1, queued=8)))
    client.ask()
    with pytest.raises(TooManyPending):
        client.ask()


def test_what_the_server_would_not_read_is_not_sent() -> None:
    """A frame beyond the limit would only cost the connection."""
    client = Client().open(opened(limits=bp.Limits(frame_bytes=1000, pending=64, queued=8)))
    with pytest.raises(TooLarge):
        client.ask("é" * 500)
    with pytest.raises(TooLarge):
        client.ask("x" * 65_537)
    with pytest.raises(TooLarge):
        client.core.update({"key": "x" * 1000})
    assert client.core.outgoing() == []


# --- interrupts --------------------------------------------------------------------------------------


def test_nothing_of_a_turn_is_delivered_from_its_interrupt_on() -> None:
    """Silence in the step of the interrupt: what arrives, and what waited, is folded and not delivered."""
    client = Client().open()
    turn = client.running("one ", "two ")
    client.interrupt(turn)
    client.take(text(5, "t_1", "three "))
    assert said(drain(turn.inbox)) == said(drain(client.everything)) == ""
    client.take(result("x_1", "interrupted", "t_1"), ended(6, "t_1", "interrupted"))
    for inbox in (turn.inbox, client.everything):
        events = drain(inbox)
        assert said(events) == ""
        assert events[-1] == ended(6, "t_1", "interrupted")
    assert str(turn.fold.voice.text) == "one two three "


def test_what_was_kept_of_a_deferred_interrupt_is_delivered() -> None:
    """A protected sentence must be heard: the answer `deferred` gives out what was kept, in order."""
    client = Client().open()
    turn = client.running("one ")
    client.interrupt(turn)
    client.take(text(4, "t_1", "two "), result("x_1", "deferred", "t_1"), text(5, "t_1", "three "))
    client.take(ended(6, "t_1", "interrupted"))
    assert said(drain(turn.inbox)) == said(drain(client.everything)) == "one two three "


@pytest.mark.parametrize("outcome", ["interrupted", "already_ended"])
def test_a_turn_that_is_over_stays_silent(outcome: bp.Outcome) -> None:
    """Whatever ended it, the user asked for silence."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.interrupt(turn)
    client.take(result("x_1", outcome, "t_1"), text(4, "t_1", "two "), ended(5, "t_1"))
    assert said(drain(turn.inbox)) == ""


def test_an_interrupt_before_the_turn_has_an_id() -> None:
    """It names the input, and the turn is silent from its first word."""
    client = Client().open()
    turn = client.ask()
    client.interrupt(turn)
    _, sent = client.core.outgoing()
    assert sent == bp.Interrupt(id=bp.InterruptId("x_1"), input_id=bp.InputId("in_1"))
    client.take(accepted(1, "t_1", "in_1"), started(2, "t_1", "in_1"), text(3, "t_1", "one "))
    client.take(result("x_1", "interrupted", "t_1"), ended(4, "t_1", "interrupted"))
    assert said(drain(turn.inbox)) == said(drain(client.everything)) == ""


def test_an_interrupt_that_is_answered_twice() -> None:
    """The second answer says nothing new and is not delivered."""
    client = Client().open()
    turn = client.running()
    client.core.outcomes()
    client.interrupt(turn)
    client.take(result("x_1", "interrupted", "t_1"), result("x_1", "interrupted", "t_1", again=True))
    assert client.core.outcomes() == [("x_1", result("x_1", "interrupted", "t_1"))]
    assert kinds(drain(client.everything)).count("InterruptResult") == 1


def test_an_interrupt_of_a_turn_that_has_ended() -> None:
    """The server is asked all the same, and what nobody has read yet is not delivered any more."""
    client = Client().open()
    turn = client.running("one ")
    client.take(ended(4, "t_1"))
    client.interrupt(turn)
    assert len(client.core.outgoing()) == 1
    assert kinds(drain(turn.inbox)) == ["InputAccepted", "TurnStarted", "TurnEnded"]


def test_an_input_that_is_meant_to_interrupt_mutes_what_runs() -> None:
    """Nothing of the old turn is rendered from the moment of the new input."""
    client = Client().open()
    old = client.running("one ")
    drain(old.inbox)
    new = client.ask(on_busy="interrupt")
    client.take(text(4, "t_1", "two "), ended(5, "t_1", "interrupted", "superseded"))
    client.take(accepted(6, "t_2", "in_2"), started(7, "t_2", "in_2"), text(8, "t_2", "new "))
    assert said(drain(old.inbox)) == ""
    assert said(drain(new.inbox)) == "new "


def test_an_input_that_is_queued_instead_gives_out_what_was_kept() -> None:
    """In a protected section the old turn is to be heard to the section's end."""
    client = Client().open()
    old = client.running("one ")
    client.ask(on_busy=None)
    client.take(text(4, "t_1", "two "), queued(5, "t_2", "in_2"), text(6, "t_1", "three "))
    client.take(ended(7, "t_1", "interrupted", "superseded"))
    assert said(drain(old.inbox)) == "one two three "


def test_an_input_that_is_rejected_gives_out_what_was_kept() -> None:
    """The old turn goes on as if nothing had been asked."""
    client = Client().open()
    old = client.running("one ")
    client.ask(on_busy="interrupt")
    client.take(text(4, "t_1", "two "), bp.InputRejected(input_id=bp.InputId("in_2"), code="shutting_down"))
    assert said(drain(old.inbox)) == "one two "


def test_a_queued_turn_is_not_muted_by_an_interrupting_input() -> None:
    """It takes the place of what runs, not of what waits."""
    client = Client().open()
    client.running()
    waiting = client.ask(on_busy="queue")
    client.ask(on_busy="interrupt")
    client.take(queued(3, "t_2", "in_2"), ended(4, "t_1", "interrupted", "superseded"))
    client.take(accepted(5, "t_3", "in_3"), started(6, "t_3", "in_3"), ended(7, "t_3"))
    client.take(started(8, "t_2", "in_2"), text(9, "t_2", "heard"))
    assert said(drain(waiting.inbox)) == "heard"


def test_what_waits_of_an_interrupted_turn_is_stale_whoever_interrupted_it() -> None:
    """Buffered output is not rendered after an end as interrupted."""
    client = Client().open()
    turn = client.running("one ", "two ")
    client.take(ended(5, "t_1", "interrupted", "client_gone"))
    assert said(drain(turn.inbox)) == ""


def test_an_interrupt_reports_what_was_read() -> None:
    """What is muted is not heard: the interrupt says how far the consumer came (contract 7)."""
    client = Client().open()
    turn = client.running("one ", "two ")
    for _ in range(3):
        turn.inbox.take()
    client.interrupt(turn)
    (sent,) = client.core.outgoing()
    assert sent == bp.Interrupt(
        id=bp.InterruptId("x_1"), turn_id=bp.TurnId("t_1"), played=bp.Played(seq=bp.Seq(3))
    )


def test_a_deferred_interrupt_takes_its_report_back() -> None:
    """What it called unheard was delivered after all, and the report moves on to the end."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.interrupt(turn)
    client.take(result("x_1", "deferred", "t_1"), text(4, "t_1", "two "))
    client.core.outgoing()
    client.take(ended(5, "t_1", "interrupted"))
    assert client.core.outgoing() == [bp.Playback(turn_id=bp.TurnId("t_1"), seq=bp.Seq(4))]


def test_an_interrupting_input_reports_what_was_read() -> None:
    """And says no more of the old turn when that ends: what came meanwhile was never shown."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.ask(on_busy="interrupt")
    report, _ = client.core.outgoing()
    assert report == bp.Playback(turn_id=bp.TurnId("t_1"), seq=bp.Seq(3))
    client.take(text(4, "t_1", "two "), ended(5, "t_1", "interrupted", "superseded"))
    client.take(accepted(6, "t_2", "in_2"))
    assert client.core.outgoing() == []


def test_an_application_that_reports_is_not_spoken_for() -> None:
    """Only the application knows what its loudspeaker played."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.core.playback(turn, bp.Played(audio_ms=100))
    client.interrupt(turn)
    _, sent = client.core.outgoing()
    assert isinstance(sent, bp.Interrupt)
    assert sent.played is None


# --- reconnecting ------------------------------------------------------------------------------------


def test_pending_holds_what_has_no_answer_in_order() -> None:
    """Inputs and interrupts are sent again with their ids and in their order."""
    client = Client().open()
    turn = client.running("one ")
    client.interrupt(turn)
    client.ask("next")
    opening = client.reopen()
    assert opening.pending is not None
    assert [event.id for event in opening.pending] == ["x_1", "in_2"]
    assert client.core.outgoing() == []


def test_a_replay_of_an_interrupted_turn_is_folded_and_not_delivered() -> None:
    """The result comes before the replay for this."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.interrupt(turn)
    client.reopen()
    client.take(result("x_1", "interrupted", "t_1"), text(4, "t_1", "two "), ended(5, "t_1", "interrupted"))
    client.take(replay_done(5))
    assert said(drain(turn.inbox)) == ""
    assert str(turn.fold.voice.text) == "one two "


def test_an_input_that_arrived_before_the_line_broke() -> None:
    """Its answer comes again without a number, and the numbered copy in the replay is not a second turn."""
    client = Client().open()
    turn = client.ask()
    client.reopen()
    client.take(accepted(0, "t_1", "in_1", again=True))
    client.take(accepted(1, "t_1", "in_1"), started(2, "t_1", "in_1"), text(3, "t_1", "one "), replay_done(3))
    events = drain(turn.inbox)
    assert kinds(events) == ["InputAccepted", "TurnStarted", "TextDelta"]
    assert [key for key, _ in client.core.outcomes()] == ["in_1"]
    assert client.core.phase is Phase.LIVE


def test_a_resume_is_announced_when_it_is_whole() -> None:
    """The consumer hears of it after the replay, not before."""
    client = Client().open()
    client.running()
    client.reopen()
    drain(client.everything)
    client.take(text(3, "t_1", "one "), replay_done(3))
    assert kinds(drain(client.everything)) == ["TextDelta", "SessionResumed"]


def test_a_refused_resume_ends_everything_here() -> None:
    """Turns in flight fail as `session_lost`, unanswered requests too, and the session is a fresh one."""
    client = Client().open()
    turn = client.running("one ")
    client.interrupt(turn)
    client.ask("next")
    client.core.outcomes()
    client.reopen(opened(session="s_2", epoch="e_2", token="k_9", reason="unknown_session"))
    client.take(session_lost("x_1"), session_lost("in_2"))
    lost = turn.ended
    assert lost is not None
    assert (lost.status, lost.reason, lost.last_seq, lost.retryable) == ("failed", "session_lost", 3, True)
    outcomes = client.core.outcomes()
    assert [key for key, _ in outcomes] == ["in_1", "x_1", "in_2"]
    assert [o.code for _, o in outcomes if isinstance(o, bp.ErrorEvent)] == ["session_lost"] * 2
    events = drain(client.everything)
    assert SessionRestarted(reason="unknown_session") in events
    assert kinds(events).count("ErrorEvent") == 2
    assert client.core.phase is Phase.LIVE
    assert client.core.session_id == "s_2"
    client.ask("again")
    client.take(accepted(1, "t_1", "in_3"))
    opening = client.reopen(opened(resumed=True, session="s_2", epoch="e_2"))
    assert opening.resume is not None
    assert opening.resume.cursor == bp.Cursor(epoch=bp.Epoch("e_2"), seq=bp.Seq(1))


def test_the_newest_token_is_used() -> None:
    """Each `session.opened` brings a token that takes the place of the last one."""
    client = Client().open()
    client.reopen(opened(resumed=True, token="k_2"))
    client.take(replay_done(0))
    opening = client.reopen(opened(resumed=True, token="k_3"))
    assert opening.resume is not None
    assert opening.resume.token == "k_2"


def test_a_line_that_breaks_before_the_first_answer() -> None:
    """There is nothing to resume yet: the next line opens a fresh session, and inputs follow it."""
    client = Client()
    client.core.attach()
    client.ask()
    assert len(client.core.outgoing()) == 1
    opening = client.reopen(opened())
    assert opening.resume is None
    assert opening.pending is None
    assert [type(event) for event in client.core.outgoing()] == [bp.InputText]


def test_what_has_no_answer_is_sent_again() -> None:
    """Metadata, the last report and tool answers may have been lost with the line."""
    client = Client().open()
    turn = client.running("one ")
    client.take(
        bp.ToolRunning(
            seq=bp.Seq(4), turn_id=turn.fold.turn_id, call_id=bp.CallId("c_1"), arguments={}, runs_in="client"
        )
    )
    client.core.update({"user": "ada", "mood": "good"})
    client.core.update({"mood": None})
    client.core.playback(turn, bp.Played(chars=2))
    client.core.playback(turn, bp.Played(chars=4))
    output = bp.ToolOutput(call_id=bp.CallId("c_1"), output=42)
    client.core.answer_tool(output)
    client.reopen()
    assert client.core.outgoing() == [
        bp.SessionUpdate(metadata={"user": "ada", "mood": None}),
        bp.Playback(turn_id=turn.fold.turn_id, chars=4),
        output,
    ]
    done = bp.ToolResult(
        seq=bp.Seq(5), turn_id=turn.fold.turn_id, call_id=bp.CallId("c_1"), output=42, status="completed"
    )
    client.take(replay_done(4), done)
    client.reopen()
    assert output not in client.core.outgoing()


def test_an_input_stays_behind_the_metadata_that_it_was_made_after() -> None:
    """The agent must not run with the old values: such an input follows, instead of being pending."""
    client = Client().open()
    client.core.detach()
    client.ask("before")
    client.core.update({"tone": "calm"})
    client.ask("after")
    opening = client.reopen()
    assert opening.pending is not None
    assert [event.id for event in opening.pending] == ["in_1"]
    assert [type(event) for event in client.core.outgoing()] == [bp.SessionUpdate, bp.InputText]


def test_a_fresh_session_gets_the_metadata() -> None:
    """It belongs to the application, not to the session that was lost."""
    client = Client().open()
    client.core.update({"user": "ada", "mood": None})
    client.reopen(opened(session="s_2", epoch="e_2", reason="expired"))
    assert client.core.outgoing() == [bp.SessionUpdate(metadata={"user": "ada"})]


def test_pending_fits_into_one_frame() -> None:
    """Requests beyond the server's frame follow the first frame; interrupts are always in it."""
    client = Client().open(opened(limits=bp.Limits(frame_bytes=1500, pending=64, queued=8)))
    turn = client.running()
    client.ask("x" * 900)
    client.ask("y" * 900)
    client.interrupt(turn)
    client.core.detach()
    client.core.attach()
    (opening,) = client.core.outgoing()
    assert isinstance(opening, bp.SessionOpen)
    assert opening.pending is not None
    assert [event.id for event in opening.pending] == ["in_2", "x_1"]
    assert len(bp.JSON.encode(opening)) <= 1500
    client.take(opened(resumed=True))
    assert [event.id for event in client.core.outgoing() if isinstance(event, bp.InputText)] == ["in_3"]


def test_holds_are_about_now() -> None:
    """A hold on a broken line is forgotten rather than sent late."""
    client = Client().open()
    turn = client.running()
    client.core.hold(turn)
    client.core.resume(turn)
    assert [type(event) for event in client.core.outgoing()] == [bp.TurnHold, bp.TurnResume]
    client.core.detach()
    client.core.hold(turn)
    client.reopen()
    assert client.core.outgoing() == []


def test_reports_in_the_queue_are_joined() -> None:
    """A player may report often; only the last word on a turn is sent."""
    client = Client().open()
    turn = client.running()
    for chars in range(100):
        client.core.playback(turn, bp.Played(chars=chars))
    assert client.core.outgoing() == [bp.Playback(turn_id=turn.fold.turn_id, chars=99)]


def test_goaway_says_when_to_come_back() -> None:
    """The delay holds for the next connection only."""
    client = Client().open()
    client.take(bp.GoAway(reason="drain", reconnect_after_ms=1500))
    assert client.core.reconnect_after_s == 1.5
    client.reopen()
    assert client.core.reconnect_after_s is None


def test_the_current_turn_is_the_oldest_that_has_not_ended() -> None:
    """Inputs that wait come after what runs."""
    client = Client().open()
    assert client.core.turns.current() is None
    first = client.running()
    second = client.ask()
    assert client.core.turns.current() is first
    client.take(ended(3, "t_1"))
    assert client.core.turns.current() is second


# --- snapshots ---------------------------------------------------------------------------------------


def folded(turn: str, input_id: str, words: str, seq: int, *, over: bool = False) -> bp.FoldedTurn:
    """A turn as a server that lost its log tells it."""
    fold = bp.TurnFold(bp.TurnId(turn), bp.InputId(input_id))
    fold.apply(started(1, turn, input_id))
    fold.apply(text(seq - 1 if over else seq, turn, words))
    if over:
        fold.apply(ended(seq, turn))
    return fold.folded()


def test_a_snapshot_replaces_the_state() -> None:
    """The consumer is told the whole state, and live events go on from there."""
    client = Client().open()
    turn = client.running("one ")
    client.reopen()
    state = folded("t_1", "in_1", "one two three ", 90)
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[state]), replay_done(100), text(101, "t_1", "four"))
    events = drain(turn.inbox)
    assert kinds(events) == ["TurnSnapshot", "TextDelta"]
    assert events[0] == TurnSnapshot(turn_id=bp.TurnId("t_1"), state=state)
    assert str(turn.fold.voice.text) == "one two three four"
    assert kinds(drain(client.everything)) == ["TurnSnapshot", "SessionResumed", "TextDelta"]


def test_a_turn_that_ended_in_a_snapshot_ends() -> None:
    """Its end is delivered like any other, after its state."""
    client = Client().open()
    turn = client.running("one ")
    client.core.outcomes()
    client.reopen()
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[folded("t_1", "in_1", "all", 90, over=True)]))
    assert kinds(drain(turn.inbox)) == ["TurnSnapshot", "TurnEnded"]
    assert turn.ended is not None
    assert [key for key, _ in client.core.outcomes()] == ["in_1"]
    assert len(client.core.turns) == 0


def test_a_turn_that_a_snapshot_does_not_know_is_lost() -> None:
    """It ends here, rather than be waited for."""
    client = Client().open()
    turn = client.running("one ")
    client.reopen()
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[]), replay_done(100))
    assert turn.ended is not None
    assert turn.ended.reason == "session_lost"


def test_a_snapshot_answers_an_input() -> None:
    """The turn of an unanswered input is in it."""
    client = Client().open()
    client.ask()
    client.reopen()
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[folded("t_1", "in_1", "hi", 90, over=True)]))
    outcomes = client.core.outcomes()
    assert [type(outcome) for _, outcome in outcomes] == [bp.InputAccepted, bp.TurnEnded]


def test_a_snapshot_of_an_interrupted_turn_is_not_delivered() -> None:
    """Its state is output, and the user asked for silence."""
    client = Client().open()
    turn = client.running("one ")
    drain(turn.inbox)
    client.interrupt(turn)
    client.reopen()
    client.take(result("x_1", "interrupted", "t_1"))
    client.take(bp.Snapshot(seq=bp.Seq(100), turns=[folded("t_1", "in_1", "all", 90)]), replay_done(100))
    client.take(ended(101, "t_1", "interrupted"))
    assert kinds(drain(turn.inbox)) == ["TurnEnded"]


def test_a_late_subscriber_does_not_hear_a_muted_turn() -> None:
    """Silence holds for whoever listens."""
    client = Client().open()
    turn = client.running("one ")
    client.interrupt(turn)
    late = client.core.subscribe()
    client.take(text(4, "t_1", "two "), result("x_1", "interrupted", "t_1"), ended(5, "t_1", "interrupted"))
    assert kinds(drain(late)) == ["InterruptResult", "TurnEnded"]


def test_resumed_is_not_said_of_a_fresh_session() -> None:
    """A session that was never lost is neither resumed nor restarted."""
    client = Client().open()
    assert not [e for e in drain(client.everything) if isinstance(e, (SessionResumed, SessionRestarted))]
