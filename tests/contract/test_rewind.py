"""A rewind drops turns from the end: from history, from every client's view, once."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_protocol import (
    ErrorEvent,
    InputId,
    InputText,
    InterruptId,
    PendingEvent,
    RewindId,
    SessionRewind,
    SessionRewound,
    Snapshot,
    ToolResult,
    TurnEnded,
    TurnId,
)
from bargein_server.core.tool_ledger import CallRecord
from core_driver import Talk


def rewind(turn: TurnId, id: str = "r1") -> SessionRewind:
    return SessionRewind(id=RewindId(id), turn_id=turn)


def said(talk: Talk, turn: TurnId) -> list[tuple[str, Any]]:
    return [(message["role"], message.get("content")) for message in talk.heard_by_next(turn)]


def whole_turn(talk: Talk, text: str) -> TurnId:
    turn = talk.ask(text)
    talk.emit(turn, f"answer to {text}")
    talk.finish(turn)
    return turn


def test_dropped_turns_are_in_no_later_history() -> None:
    """The first exchange stays; the new input stands in place of the rest."""
    talk = Talk()
    first, second, third = (whole_turn(talk, text) for text in ("one", "two", "three"))
    talk.send(rewind(second))
    [rewound] = talk.of(SessionRewound)
    assert (rewound.rewind_id, rewound.turns, rewound.seq) == ("r1", [second, third], talk.numbers()[-1])
    fourth = talk.ask("two, again")
    assert said(talk, fourth) == [("user", "one"), ("assistant", "answer to one"), ("user", "two, again")]
    assert first not in rewound.turns


def test_a_turn_that_runs_is_interrupted_first() -> None:
    """It has its one end before it is dropped; waiting turns have theirs too, and none of them starts."""
    talk = Talk()
    running = talk.ask("one")
    waiting = talk.ask("two", on_busy="queue")
    talk.emit(running, "half an ans")
    start = talk.mark()
    talk.send(rewind(running))
    assert talk.types(start) == ["turn.ended", "turn.ended", "session.rewound"]
    assert [talk.end_of(turn).reason for turn in (running, waiting)] == ["rewound", "rewound"]
    assert not talk.emit(running, "wer")
    assert talk.cancelled() == [running]
    assert talk.started() == [running]
    assert talk.of(SessionRewound)[0].turns == [running, waiting]


def test_the_next_turn_starts_beside_the_cleanup_of_the_dropped_one() -> None:
    """As after an interrupt."""
    talk = Talk()
    running = talk.ask("one")
    talk.send(rewind(running))
    again = talk.ask("one")
    assert talk.started() == [running, again]
    assert said(talk, again) == [("user", "one")]
    talk.cleaned_up(running)
    assert said(talk, again) == [("user", "one")]


def test_a_repetition_changes_nothing() -> None:
    """It gets the first answer, as a duplicate without a number."""
    talk = Talk()
    first = whole_turn(talk, "one")
    talk.send(rewind(first))
    second = whole_turn(talk, "two")
    talk.send(rewind(first))
    assert len(talk.of(SessionRewound)) == 2
    one, again = talk.of(SessionRewound)
    assert (again.turns, again.duplicate, again.seq) == (one.turns, True, 0)
    assert ("user", "two") in said(talk, talk.ask("three"))
    assert second not in again.turns


@pytest.mark.parametrize("other", [InputText(id=InputId("r1"), text="x"), rewind(TurnId("t1"))])
def test_an_id_is_of_one_kind(other: PendingEvent) -> None:
    """An id of an input is no id of a rewind, and the other way round."""
    talk = Talk()
    first = talk.ask("one", id="r1" if isinstance(other, SessionRewind) else "i1")
    talk.finish(first)
    if isinstance(other, InputText):
        talk.send(rewind(first))
    talk.send(other)
    assert [event.code for event in talk.of(ErrorEvent)] == ["id_reused"]


def test_what_cannot_be_dropped() -> None:
    """An unknown turn, one that was dropped before; the request may be made again under the same id."""
    talk = Talk()
    first = whole_turn(talk, "one")
    talk.send(rewind(TurnId("none"), "a"))
    talk.send(rewind(first, "a"))
    talk.send(rewind(first, "b"))
    assert [(event.code, event.ref_id) for event in talk.of(ErrorEvent)] == [
        ("unknown_turn", "a"),
        ("unknown_turn", "b"),
    ]
    assert [event.rewind_id for event in talk.of(SessionRewound)] == ["a"]


def test_a_section_protects_its_turn() -> None:
    """Nothing has changed, and the client may try again."""
    talk = Talk()
    first = whole_turn(talk, "one")
    second = talk.ask("two")
    talk.enter_section(second)
    talk.send(rewind(first))
    refused = [(event.code, event.retryable, event.ref_id) for event in talk.of(ErrorEvent)]
    assert refused == [("busy", True, "r1")]
    assert talk.emit(second, "protected")
    talk.leave_section(second)
    talk.send(rewind(first))
    assert talk.of(SessionRewound)[0].turns == [first, second]


def test_a_server_that_stops_refuses() -> None:
    """The input that would follow is refused as well, and the answer that it replaces would be lost."""
    talk = Talk()
    first = whole_turn(talk, "one")
    talk.session.drain(1.0, talk.now)
    talk.send(rewind(first))
    assert [event.code for event in talk.of(ErrorEvent)] == ["shutting_down"]
    assert talk.of(SessionRewound) == []


def test_a_late_result_of_a_dropped_turn_is_told_to_nobody() -> None:
    """What its tool has done is done; the conversation does not mention it."""
    talk = Talk()
    first = talk.ask("book it")
    call = talk.session.tools.claim(first, "c1")
    talk.session.tools.begin(first, CallRecord(call_id=call, name="book", arguments={}, background=True))
    talk.send(rewind(first))
    result = ToolResult(call_id=call, output="booked", status="completed")
    assert not talk.session.tools.settle(first, result)
    assert talk.session.turn(first).fold.lanes[""].tools == {}
    assert said(talk, talk.ask("hello")) == [("user", "hello")]


def test_a_rewind_and_its_input_survive_a_lost_line() -> None:
    """Both are pending, in order; the answers come before the replay."""
    talk = Talk()
    first = whole_turn(talk, "one")
    top = talk.numbers()[-1]
    talk.detach()
    pending: list[PendingEvent] = [rewind(first), InputText(id=InputId("again"), text="one")]
    start = talk.mark()
    talk.attach(top, pending)
    assert talk.types(start)[0] == "session.opened"
    assert talk.types(start)[-4:] == ["session.rewound", "input.accepted", "turn.started", "replay.done"]
    again = talk.of(TurnEnded)[-1].turn_id
    assert again == first
    second = talk.started()[-1]
    assert said(talk, second) == [("user", "one")]


def test_a_client_that_missed_the_log_learns_of_it_from_the_snapshot() -> None:
    """The dropped turn is there, empty and marked; its number is that of the rewind."""
    talk = Talk(max_log_events=4)
    first = whole_turn(talk, "one")
    cursor = talk.numbers()[-1]
    talk.detach()
    talk.session.side_channel.request(rewind(first), talk.now)
    talk.flush()
    for text in ("two", "three"):
        talk.session.side_channel.request(InputText(id=InputId(text), text=text), talk.now)
        talk.flush()
        talk.finish(talk.started()[-1])
    talk.attach(cursor)
    [snapshot] = talk.of(Snapshot)
    [state] = [state for state in snapshot.turns if state.turn_id == first]
    assert state.dropped
    assert state.lanes == {"": type(state.lanes[""])()}


@pytest.mark.parametrize("sent", ["before", "with the resume"])
def test_a_rewind_is_answered_when_a_snapshot_takes_the_place_of_the_replay(sent: str) -> None:
    """Its numbered event is in the snapshot alone, which has no ids of requests."""
    talk = Talk(max_log_events=4)
    first = whole_turn(talk, "one")
    cursor = talk.numbers()[-1]
    if sent == "before":
        talk.send(rewind(first))
    talk.detach()
    for text in ("two", "three"):
        talk.session.side_channel.request(InputText(id=InputId(text), text=text), talk.now)
        talk.flush()
        talk.finish(talk.started()[-1])
    start = talk.mark()
    talk.attach(cursor, [rewind(first)] if sent != "before" else [])
    assert talk.types(start) == ["session.opened", "session.rewound", "snapshot", "replay.done"]
    [answer] = talk.of(SessionRewound)[-1:]
    assert (answer.seq, answer.duplicate) == (0, True)
    assert first in answer.turns


def test_a_request_beside_the_client_gets_its_answer() -> None:
    """And the client that drives the session gets the numbered event."""
    talk = Talk()
    first = whole_turn(talk, "one")
    [answer] = talk.session.side_channel.request(rewind(first), talk.now)
    talk.flush()
    assert isinstance(answer, SessionRewound)
    assert talk.of(SessionRewound) == [answer]


def test_dropped_turns_keep_little() -> None:
    """A session that is rewound for ever does not grow."""
    talk = Talk()
    sizes = []
    for _ in range(3):
        turn = talk.ask("x")
        talk.emit(turn, "word " * 2000)
        talk.finish(turn)
        talk.cleaned_up(turn)
        before = talk.session._turns.kept_bytes
        talk.send(rewind(turn, f"r{turn}"))
        sizes.append((before, talk.session._turns.kept_bytes))
    assert all(after < before / 20 for before, after in sizes)


def test_an_interrupt_id_stays_what_it_was() -> None:
    """A rewind does not answer an interrupt."""
    talk = Talk()
    first = talk.ask("one")
    talk.interrupt(first, id="x1")
    talk.send(rewind(first, "x1"))
    assert [event.code for event in talk.of(ErrorEvent)] == ["id_reused"]
    assert InterruptId("x1") == "x1"
