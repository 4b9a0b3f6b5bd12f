"""The client without a socket: what survives a broken line."""

from __future__ import annotations

import bargein_protocol as bp
from bargein_client.events import SessionRestarted
from bargein_client.phases import Phase
from client_script import (
    Client,
    accepted,
    drain,
    ended,
    kinds,
    opened,
    replay_done,
    result,
    said,
    session_lost,
    started,
    text,
)


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
