"""Clients that send the whole conversation and read one turn at a time."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_protocol import (
    JSON,
    CallId,
    InputId,
    InputText,
    Seq,
    SessionRewind,
    Snapshot,
    TextDelta,
    ToolCall,
    ToolConfirm,
    ToolDecision,
    TurnEnded,
    TurnId,
)
from bargein_protocol.types import RewindId
from bargein_server.core.outside_client import Alignment
from core_driver import Talk

SEED = [{"role": "user", "content": "before"}, {"role": "assistant", "content": "yes"}]


def talked(*texts: str, **settings: Any) -> Talk:
    """Return a conversation in which each input got an answer."""
    talk = Talk(**settings)
    for text in texts:
        turn = talk.ask(text)
        talk.emit(turn, f"answer to {text}")
        talk.finish(turn)
    return talk


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a", "b"], Alignment()),
        (["a"], Alignment(TurnId("t2"))),
        ([], Alignment(TurnId("t1"))),
        (["a", "x"], Alignment(TurnId("t1"), complete=False)),
        (["a", "b", "c"], Alignment(TurnId("t1"), complete=False)),
        (["forgotten", "a", "b"], Alignment()),
        ([" a ", "b"], Alignment()),
    ],
)
def test_turns_that_the_client_does_not_have_are_found(given: list[str], expected: Alignment) -> None:
    """An edit drops turns from the end, another conversation all, and a forgotten start none."""
    assert talked("a", "b").session.outside.align([], given) == expected


def mixed(*inputs: str) -> Talk:
    """Return a conversation of a client and of others, whose inputs have their names."""
    talk = Talk()
    for number, text in enumerate(inputs):
        owner, _, said = text.rpartition(":")
        turn = talk.ask(said, id=f"{owner or 'in_own'}_{number}")
        talk.emit(turn, f"answer to {said}")
        talk.finish(turn)
    return talk


@pytest.mark.parametrize(
    ("inputs", "given", "expected"),
    [
        (["a", "page:b"], ["a"], Alignment()),
        (["a", "page:b"], ["a", "b"], Alignment()),
        (["a", "page:b", "c"], ["a", "c"], Alignment()),
        (["a", "page:b", "c"], ["a"], Alignment(TurnId("t3"))),
        (["a", "page:b", "c"], [], Alignment(TurnId("t1"))),
        (["page:a", "page:b"], [], Alignment()),
        (["a", "page:b", "b"], ["a", "b"], Alignment()),
        (["a", "page:b", "b"], ["a", "b", "b"], Alignment()),
        (["a", "page:b", "c"], ["a", "x"], Alignment(TurnId("t1"), complete=False)),
        (["b", "page:x", "c"], ["forgotten", "b", "c"], Alignment()),
    ],
)
def test_turns_of_other_clients_stay(inputs: list[str], given: list[str], expected: Alignment) -> None:
    """A client does not mean to drop what it has never seen, and may have seen it."""
    assert mixed(*inputs).session.outside.align([], given, "in_own") == expected


def test_messages_before_the_session_count() -> None:
    """A seeded session has them; one whose seed was edited is seeded anew."""
    talk = talked("a")
    align = talk.session.outside.align
    assert align(SEED, ["before", "a"]) == Alignment()
    assert align(SEED, ["before"]) == Alignment(TurnId("t1"))
    assert align(SEED, []) == Alignment(TurnId("t1"), complete=False)
    assert talked().session.outside.align([], ["before"]) == Alignment(None, complete=False)


def test_dropped_turns_do_not_count() -> None:
    """A rewind takes them out of the conversation."""
    talk = talked("a", "b")
    talk.send(SessionRewind(id=RewindId("r"), turn_id=talk.started()[1]))
    assert talk.session.outside.align([], ["a"]) == Alignment()
    assert [turn.input.text for turn in talk.session.outside.turns()] == ["a"]


def test_a_turn_is_replayed_from_its_first_event() -> None:
    """Nothing of earlier turns comes, and what was heard of them stays."""
    talk = talked("a")
    talk.detach()
    answers = talk.session.side_channel.request(InputText(id=InputId("q"), text="b"), talk.now)
    assert answers == []
    talk.flush()
    turn = talk.started()[-1]
    talk.emit(turn, "one ", "two")
    start = talk.session.outside.start_of(InputId("q"))
    assert start is not None
    mark = talk.mark()
    talk.session.outside.attach(JSON, start, talk.now)
    talk.flush()
    talk.finish(turn)
    texts = ["text.delta", "text.delta"]
    assert talk.types(mark) == ["input.accepted", "turn.started", *texts, "replay.done", "turn.ended"]
    assert talk.end_of(turn).heard.text == "one two"


def test_output_that_nobody_read_stays_unheard_for_the_next_turn() -> None:
    """Attaching at a later number is no proof that earlier output was read."""
    talk = Talk()
    first = talk.ask("a")
    talk.detach()
    talk.emit(first, "unread")
    talk.finish(first)
    talk.session.side_channel.request(InputText(id=InputId("q"), text="b"), talk.now)
    talk.flush()
    start = talk.session.outside.start_of(InputId("q"))
    assert start is not None
    talk.session.outside.attach(JSON, start, talk.now)
    talk.flush()
    assert talk.heard_by_next(talk.started()[-1])[1] == {"role": "assistant", "content": "[interrupted]"}


def test_a_turn_beyond_the_log_comes_as_a_snapshot() -> None:
    """Its state replaces the events that the log has trimmed."""
    talk = Talk(max_log_events=4)
    talk.detach()
    talk.session.side_channel.request(InputText(id=InputId("q"), text="b"), talk.now)
    talk.flush()
    turn = talk.started()[-1]
    for n in range(9):
        talk.session.emit(turn, ToolCall(call_id=CallId(f"c{n}"), name="look"), talk.now)
    start = talk.session.outside.start_of(InputId("q"))
    assert start is not None
    mark = talk.mark()
    talk.session.outside.attach(JSON, start, talk.now)
    talk.flush()
    assert talk.types(mark) == ["snapshot", "replay.done"]
    assert len(talk.of(Snapshot)[-1].turns[0].lanes[""].tools) == 9


def test_an_unknown_input_has_no_start() -> None:
    """An input that was rejected has none either."""
    talk = talked("a")
    assert talk.session.outside.start_of(InputId("never")) is None


def waiting_for_a_decision(**settings: Any) -> tuple[Talk, TurnId]:
    """Return a conversation whose client is away while its user is asked."""
    talk = Talk(away_s=3.0, confirm_s=60.0, no_output_s=1000.0, **settings)
    turn = talk.ask("buy")
    call_id = talk.session.tools.claim(turn, "c")
    talk.emit(turn, ToolCall(call_id=call_id, name="buy"))
    talk.session.tools.expect(turn, call_id, ToolDecision)
    talk.emit(turn, ToolConfirm(call_id=call_id, arguments={}))
    talk.detach()
    return talk, turn


def test_consent_outlives_its_request() -> None:
    """A turn waits `confirm_s` for the decision of a client that is away, and not only `away_s`."""
    talk, turn = waiting_for_a_decision()
    talk.wait(59)
    assert talk.session.busy
    assert talk.session.side_channel.request(ToolDecision(call_id=CallId("c"), allow=True), talk.now) == []
    talk.session.outside.attach(JSON, Seq(0), talk.now)
    talk.flush()
    talk.emit(turn, "bought")
    talk.finish(turn)
    assert talk.end_of(turn).status == "completed"


def test_consent_is_not_waited_for_longer() -> None:
    """Without a decision the turn is interrupted after `confirm_s`."""
    talk, _ = waiting_for_a_decision()
    talk.wait(61)
    assert not talk.session.busy


def test_other_turns_wait_for_their_client_as_before() -> None:
    """A turn that waits for nobody is interrupted after `away_s`."""
    talk = Talk(away_s=3.0, confirm_s=60.0)
    talk.ask("hello")
    talk.detach()
    talk.wait(4)
    assert not talk.session.busy


def test_a_session_without_a_token_is_kept_for_longer() -> None:
    """Its client comes back with its own id, so it waits `idle_s`."""
    talk = talked("a", resume_s=10.0, idle_s=100.0)
    talk.session.outside.keep_idle()
    talk.detach()
    talk.wait(50)
    assert talk.session.next_deadline() is not None
    talk.wait(60)
    assert talk.session.next_deadline() is None


def test_seeds_count_as_kept() -> None:
    """A client cannot make the server keep messages for nothing."""
    talk = talked("a")
    before = talk.session.kept_bytes
    talk.session.outside.kept_bytes = 1000
    assert talk.session.kept_bytes == before + 1000


def test_text_is_heard_while_such_a_client_drives() -> None:
    """It has one stream per turn, whose output counts as read."""
    talk = talked("a")
    assert [event.text for event in talk.of(TextDelta)] == ["answer to a"]
    assert talk.of(TurnEnded)[0].heard.text == "answer to a"
