"""Display of a turn."""

from __future__ import annotations

import pytest

import bargein_protocol as bp
from bargein_client.cli.lane_order import LONGEST_WAIT
from bargein_client.cli.notices import Notices
from bargein_client.cli.view import ASKING, TurnView
from bargein_client.cli.words import refused
from bargein_client.errors import InputRejected
from bargein_client.events import (
    EventsLost,
    Reconnecting,
    SessionEvent,
    SessionRestarted,
    SessionResumed,
    TurnSnapshot,
)
from bargein_protocol.types import ToolStatus
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
    assert paper.lines == ["\u27c2 stopped: the next message came"]


def test_the_cut_is_marked_once() -> None:
    """At the key press; the server's word adds the reason only."""
    paper = Paper()
    view = TurnView(paper)
    view.show(text(3, T, "once"))
    view.cut()
    view.show(ended(4, T, "interrupted"))
    assert paper.answer == "once|\n"
    assert paper.lines == ["\u27c2 stopped"]


def test_a_failure_says_why() -> None:
    """The line has the reason and whether to retry."""
    failed = bp.TurnEnded(
        seq=bp.Seq(3), turn_id=T, status="failed", reason="overload", last_seq=bp.Seq(2), heard=bp.Heard(),
        retryable=True,
    )  # fmt: skip
    assert shown(failed).lines == ["\u27c2 failed: the server is full (overload); you may try again"]


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
    assert paper.lines == ['search {"q":1}: failed: no luck']
    assert paper.states == ["running search", "waiting"]


def test_a_question_is_the_status_that_matters_most() -> None:
    """Beside tools that run, and until its answer."""
    other = bp.CallId("c_2")
    paper = shown(
        bp.ToolCall(seq=bp.Seq(3), turn_id=T, call_id=C, name="search"),
        bp.ToolCall(seq=bp.Seq(4), turn_id=T, call_id=other, name="book"),
        bp.ToolConfirm(seq=bp.Seq(5), turn_id=T, call_id=other, arguments={}),
        bp.ToolRunning(seq=bp.Seq(6), turn_id=T, call_id=C, arguments={}),
        bp.ToolResult(seq=bp.Seq(7), turn_id=T, call_id=C, status="completed"),
        bp.ToolRunning(seq=bp.Seq(8), turn_id=T, call_id=other, arguments={}),
    )
    assert paper.states == [ASKING, ASKING, ASKING, "running book"]


@pytest.mark.parametrize(("status", "reason"), [("interrupted", "client"), ("failed", "agent_error")])
def test_a_tool_that_was_cut_keeps_its_line(status: bp.TurnStatus, reason: str) -> None:
    """In an interrupted and in a failed turn; a call that has a result is not cut."""
    other = bp.CallId("c_2")
    paper = shown(
        bp.ToolCall(seq=bp.Seq(3), turn_id=T, call_id=C, name="search"),
        bp.ToolRunning(seq=bp.Seq(4), turn_id=T, call_id=C, arguments={"q": 1}),
        bp.ToolResult(seq=bp.Seq(5), turn_id=T, call_id=C, status="completed"),
        bp.ToolCall(seq=bp.Seq(6), turn_id=T, call_id=other, name="book"),
        bp.ToolRunning(seq=bp.Seq(7), turn_id=T, call_id=other, arguments={"seats": 2}),
        ended(8, T, status, reason),
    )
    assert paper.lines[:2] == ['search {"q":1}: done', 'book {"seats":2} \u27c2']
    assert len(paper.lines) == 3


def test_a_tool_is_marked_at_the_key_press() -> None:
    """Above the message that interrupts it."""
    paper = Paper()
    view = TurnView(paper)
    view.show(bp.ToolCall(seq=bp.Seq(3), turn_id=T, call_id=C, name="search"))
    view.cut()
    assert paper.lines == ["search \u27c2"]
    view.show(ended(4, T, "interrupted", "superseded"))
    assert paper.lines == ["search \u27c2"]


def lane(source: str, words: str, seq: int = 4) -> bp.TextDelta:
    """`text.delta` of a lane."""
    return bp.TextDelta(seq=bp.Seq(seq), turn_id=T, source=source, text=words)


def test_voices_are_told_apart() -> None:
    """Several lanes in one turn; the words of audio count as text."""
    spoken = bp.AudioDelta(seq=bp.Seq(5), turn_id=T, audio=b"", start_ms=0, duration_ms=1, text=" yes")
    thought = bp.Thought(seq=bp.Seq(6), turn_id=T, text="hm")
    paper = shown(text(3, T, "well"), lane("critic", "no"), spoken, thought, ended(7, T))
    assert paper.answer == "well yes\nno\n"
    assert paper.lines == ["hm", "critic:"]


def test_parallel_lanes_are_not_mixed_in_mid_sentence() -> None:
    """One lane gives way at its end of a line, or of a sentence when others have waited; nothing is lost."""
    events = [
        lane(source, f"{source}{n}{end} ")
        for n, end in enumerate(["", "", "."] * 12)
        for source in ("a", "b")
    ]
    paper = shown(*events, ended(9, T))
    for source in ("a", "b"):
        words = [word for word in paper.answer.split() if word.startswith(source)]
        assert words == [f"{source}{n}{end}" for n, end in enumerate(["", "", "."] * 12)]
    *pieces, _last = paper.answer.splitlines()
    assert len(pieces) > 2
    assert all(piece.endswith(". ") for piece in pieces)
    assert shown(lane("a", "one\n"), lane("b", "two"), lane("a", "three")).answer == "one\ntwo"


def test_a_lane_that_has_stopped_in_mid_sentence_gives_way() -> None:
    """After many pieces of another one, before the end of the turn."""
    paper = shown(lane("a", "no end"), *(lane("b", f"{n} ") for n in range(LONGEST_WAIT)))
    assert paper.answer.startswith("no end\n0 1 2 ")


def test_a_line_waits_for_the_end_of_the_sentence() -> None:
    """A tool that ends while the answer is written does not cut it."""
    paper = Paper()
    view = TurnView(paper)
    view.show(text(3, T, "one "))
    view.show(bp.ToolResult(seq=bp.Seq(5), turn_id=T, call_id=C, status="completed"))
    assert paper.lines == []
    view.show(text(6, T, "two. "))
    assert paper.lines == ["a tool: done"]
    view.show(text(7, T, "Three"))
    view.show(bp.ToolResult(seq=bp.Seq(8), turn_id=T, call_id=C, status="failed"))
    view.show(ended(9, T))
    assert paper.lines == ["a tool: done", "a tool: failed"]


def test_text_before_a_call_is_ended() -> None:
    """The result does not wait for a sentence that its step has left open."""
    result = bp.ToolResult(seq=bp.Seq(5), turn_id=T, call_id=C, status="completed")
    call = bp.ToolCall(seq=bp.Seq(4), turn_id=T, call_id=C, name="look")
    assert shown(text(3, T, "Let me look "), call, result).lines == ["look: done"]


def test_a_line_of_another_lane_waits() -> None:
    """The result of a tool does not cut the sentence of a parallel lane."""
    done = bp.ToolResult(seq=bp.Seq(5), turn_id=T, call_id=C, source="b", status="completed")
    paper = shown(lane("a", "one "), done, lane("a", "two"), ended(8, T))
    assert paper.answer == "one two\n"
    assert paper.lines == ["a:", "a tool: done"]


@pytest.mark.parametrize(
    ("status", "error", "line"),
    [
        ("completed", None, 'search {"q":1}: done, 1.2 s'),
        ("failed", "no luck", 'search {"q":1}: failed: no luck, 1.2 s'),
        ("cancelled", "not allowed", 'search {"q":1}: cancelled: not allowed, 1.2 s'),
        ("running", None, 'search {"q":1}: continues in the background'),
    ],
)
def test_a_tool_has_one_line(status: ToolStatus, error: str | None, line: str) -> None:
    """Its name, its arguments and its end."""
    paper = shown(
        bp.ToolCall(seq=bp.Seq(3), turn_id=T, call_id=C, name="search"),
        bp.ToolRunning(seq=bp.Seq(4), turn_id=T, call_id=C, arguments={"q": 1}),
        bp.ToolResult(seq=bp.Seq(5), turn_id=T, call_id=C, status=status, error=error, duration_ms=1234),
    )
    assert paper.lines == [line]


def test_long_arguments_are_shortened() -> None:
    """The line stays a line."""
    paper = shown(
        bp.ToolRunning(seq=bp.Seq(4), turn_id=T, call_id=C, arguments={"q": "x" * 500}),
        bp.ToolResult(seq=bp.Seq(5), turn_id=T, call_id=C, status="completed"),
    )
    assert len(paper.lines[0]) < 80


def test_the_users_own_interrupt_is_not_told_twice() -> None:
    """The next message stands there already; any other end of the turn has its words."""
    for reason, lines in (("superseded", []), ("client", ["\u27c2 stopped"])):
        paper = Paper()
        view = TurnView(paper)
        view.show(text(3, T, "once"))
        view.cut()
        view.show(ended(4, T, "interrupted", reason))
        assert paper.lines == lines


def test_unknown_reasons_are_shown_as_they_are() -> None:
    """Words of a newer server."""
    assert shown(ended(4, T, "interrupted", "odd")).lines == ["\u27c2 stopped (odd)"]
    assert shown(ended(4, T, "failed", "odd")).lines == ["\u27c2 failed (odd)"]


def test_a_refusal_has_words_and_says_when_to_try_again() -> None:
    """The code stays, for searches."""
    known = InputRejected("at_capacity", "full", retryable=True, retry_after_ms=2400)
    words = "not accepted: the server has no room for this now (at_capacity); try again in 2 s"
    assert refused(known) == words
    assert refused(InputRejected("odd", "why", retryable=False)) == "not accepted: odd: why"


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
        "the server has forgotten this conversation; a new one has begun (unknown_session)",
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
