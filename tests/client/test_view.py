"""Display of a turn."""

from __future__ import annotations

import bargein_protocol as bp
from bargein_client.cli.notices import Notices
from bargein_client.cli.view import TurnView
from bargein_client.events import (
    EventsLost,
    Reconnecting,
    SessionEvent,
    SessionRestarted,
    SessionResumed,
    TurnSnapshot,
)
from client_script import ended, queued, text
from paper import Paper

T = bp.TurnId("t_1")
C = bp.CallId("c_1")


def shown(*events: SessionEvent) -> Paper:
    """Show events of a turn."""
    paper = Paper()
    view = TurnView(paper)
    for event in events:
        view.show(event)
    return paper


def test_a_cut_answer_is_marked() -> None:
    """The position of the cut, and its reason."""
    paper = shown(text(3, T, "once upon"), ended(4, T, "interrupted", "superseded"))
    assert paper.answer == "once upon|\n"
    assert paper.lines == ["\u27c2 cut \u00b7 superseded"]


def test_the_cut_is_marked_once() -> None:
    """At the key press; the server's word adds the reason only."""
    paper = Paper()
    view = TurnView(paper)
    view.show(text(3, T, "once"))
    view.cut()
    view.show(ended(4, T, "interrupted"))
    assert paper.answer == "once|\n"
    assert paper.lines == ["\u27c2 cut"]


def test_a_failure_says_why() -> None:
    """The line has the reason and whether to retry."""
    failed = bp.TurnEnded(
        seq=bp.Seq(3), turn_id=T, status="failed", reason="overload", last_seq=bp.Seq(2), heard=bp.Heard(),
        retryable=True,
    )  # fmt: skip
    assert shown(failed).lines == ["\u27c2 failed \u00b7 overload, you may try again"]


def test_a_snapshot_continues_what_was_shown() -> None:
    """Only new text is written; a different answer is written again."""
    state = bp.TurnState(turn_id=T, lanes={"": bp.LaneState(text="one two three")})
    assert shown(text(3, T, "one "), TurnSnapshot(turn_id=T, state=state)).answer == "one two three"
    paper = shown(text(3, T, "other "), TurnSnapshot(turn_id=T, state=state))
    assert paper.answer == "other \none two three"
    assert len(paper.lines) == 1


def test_the_state_of_things_is_a_status() -> None:
    """A status is shown while it lasts, and removed by the answer."""
    paper = shown(
        queued(1, T, "in_1", 2),
        bp.Status(seq=bp.Seq(2), turn_id=T, message="reading"),
        bp.Progress(seq=bp.Seq(3), turn_id=T, value=3, total=10, unit="files", label="read"),
        bp.TurnHeld(seq=bp.Seq(4), turn_id=T),
        bp.TurnResumed(seq=bp.Seq(5), turn_id=T),
        text(6, T, "so"),
    )
    assert paper.states == ["waiting behind 2 others", "reading", "read 3 of 10 files", "held", None, None]


def test_tools_are_named() -> None:
    """By the name of the call."""
    paper = Paper()
    view = TurnView(paper)
    for event in (
        bp.ToolCall(seq=bp.Seq(3), turn_id=T, call_id=C, name="search"),
        bp.ToolRunning(seq=bp.Seq(5), turn_id=T, call_id=C, arguments={"q": 1}),
        bp.ToolResult(seq=bp.Seq(6), turn_id=T, call_id=C, status="failed", error="no luck"),
    ):
        view.show(event)
    assert paper.lines == ["search: no luck"]
    assert paper.states == ["running search"]


def test_voices_are_told_apart() -> None:
    """Several lanes in one turn; the words of audio count as text."""
    other = bp.TextDelta(seq=bp.Seq(4), turn_id=T, source="critic", text="no")
    spoken = bp.AudioDelta(seq=bp.Seq(5), turn_id=T, audio=b"", start_ms=0, duration_ms=1, text="yes")
    thought = bp.Thought(seq=bp.Seq(6), turn_id=T, text="hm")
    paper = shown(text(3, T, "well"), other, spoken, thought)
    assert paper.answer == "well\nno\nyes"
    assert paper.lines == ["critic:", "hm"]


def test_news_of_the_line() -> None:
    """Each outage has one notice, and one for its end."""
    paper = Paper()
    notices = Notices(paper)
    for event in (
        Reconnecting(attempt=1, delay_s=0.1, code="abnormal"),
        Reconnecting(attempt=2, delay_s=0.2, code="abnormal"),
        SessionResumed(),
        Reconnecting(attempt=3, delay_s=0.2, code="abnormal"),
        SessionRestarted(reason="unknown_session"),
        EventsLost(count=3),
        bp.Heartbeat(message="still at it"),
        bp.GoAway(reason="restart", reconnect_after_ms=1),
        bp.InterruptResult(interrupt_id=bp.InterruptId("x"), outcome="deferred"),
        bp.ErrorEvent(code="unknown_call", message="no tool call waits"),
        bp.ErrorEvent(code="session_lost", message="lost"),
    ):
        notices.show(event)
    assert paper.lines == [
        "reconnecting\u2026",
        "resumed",
        "reconnecting\u2026",
        "the server lost the session; this is a new one (unknown_session)",
        "3 events were lost",
        "the server is shutting down: restart",
        "the agent has to finish this part first",
        "unknown_call: no tool call waits",
    ]
    assert "still at it" in paper.states


def test_an_answer_that_its_model_ended_early_says_so() -> None:
    """It completed, and is no whole answer; another reason of a completed turn says nothing."""
    paper = shown(text(3, T, "once upon"), ended(4, T, "completed", "length"))
    assert paper.lines == ["\u27c2 cut off: the model reached its limit"]
    assert shown(text(3, T, "once"), ended(4, T, "completed", "odd")).lines == []
