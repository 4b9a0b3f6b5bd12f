"""Requests beside inputs and interrupts, and the cache of answers."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from bargein_protocol import (
    CallId,
    ClientEvent,
    ErrorEvent,
    Heard,
    InputAccepted,
    InputAudio,
    InputClear,
    InputCommit,
    InputId,
    InputQueued,
    InputRejected,
    InputText,
    Interrupt,
    InterruptId,
    InterruptResult,
    Playback,
    Played,
    Seq,
    SessionOpen,
    SessionUpdate,
    ToolDecision,
    ToolOutput,
    TurnEnded,
    TurnHold,
    TurnId,
    TurnResume,
)
from bargein_server.core import requests
from bargein_server.core.requests import REMEMBERED, Answer, ReplyCache
from core_driver import Talk

NOWHERE = TurnId("t99")


def test_every_client_event_has_a_handler() -> None:
    """A new event cannot be forgotten."""
    assert set(get_args(ClientEvent)) == set(requests._HANDLERS)


@pytest.mark.parametrize(
    ("event", "code", "ref_id"),
    [
        (InputAudio(audio=b""), "unsupported", None),
        (InputCommit(id=InputId("c")), "unsupported", "c"),
        (InputClear(), "unsupported", None),
        (TurnHold(turn_id=NOWHERE), "unknown_turn", NOWHERE),
        (TurnResume(turn_id=NOWHERE), "unknown_turn", NOWHERE),
        (Playback(turn_id=NOWHERE, chars=1), "unknown_turn", NOWHERE),
        (ToolOutput(call_id=CallId("k"), output=1), "unknown_call", "k"),
        (ToolDecision(call_id=CallId("k"), allow=True), "unknown_call", "k"),
        (SessionOpen(), "already_open", None),
    ],
)
def test_what_cannot_be_done_is_a_coded_error_and_nothing_else(
    event: Any, code: str, ref_id: str | None
) -> None:
    """The session lives on, and the turn runs."""
    talk = Talk()
    turn = talk.ask()
    mark = talk.mark()
    talk.send(event)
    [error] = talk.events[mark:]
    assert isinstance(error, ErrorEvent)
    assert (error.code, error.ref_id, error.retryable) == (code, ref_id, False)
    assert talk.emit(turn, "still here")


@pytest.mark.parametrize("kind", [TurnHold, TurnResume])
def test_a_turn_that_waits_or_ended_cannot_be_held(kind: type[TurnHold | TurnResume]) -> None:
    """`not_running`; its end is not touched."""
    talk = Talk()
    ended = talk.ask()
    talk.interrupt(ended)
    talk.ask()
    waiting = talk.ask(on_busy="queue")
    for turn in (ended, waiting):
        talk.send(kind(turn_id=turn))
    assert [(e.code, e.ref_id) for e in talk.of(ErrorEvent)] == [
        ("not_running", ended),
        ("not_running", waiting),
    ]


@pytest.mark.parametrize("on_busy", ["interrupt", "queue"])
def test_an_early_interrupt_ends_its_input_whatever_runs(on_busy: Any) -> None:
    """It got its end without superseding what runs or waiting behind it."""
    talk = Talk()
    running = talk.ask()
    talk.interrupt(asked_by="later", played=None, reason="oops")
    turn = talk.ask(id="later", on_busy=on_busy)
    assert talk.end_of(turn).reason == "oops"
    assert [event.turn_id for event in talk.of(TurnEnded)] == [turn]
    talk.finish(running)
    assert talk.started() == [running]


def test_an_early_interrupt_is_used_up() -> None:
    """It makes room for another one, and the input's id means its turn from then on."""
    talk = Talk()
    for n in range(64):
        talk.interrupt(asked_by=f"later{n}")
    talk.ask(id="later0")
    assert talk.interrupt(asked_by="later64").outcome == "deferred"
    assert talk.interrupt(asked_by="later0").outcome == "already_ended"


def test_two_early_interrupts_for_one_input_count_as_one() -> None:
    """The first one's reason is that of the end."""
    talk = Talk()
    for reason in ("first", "second"):
        assert talk.interrupt(asked_by="later", reason=reason).outcome == "deferred"
    assert talk.end_of(talk.ask(id="later")).reason == "first"


def test_an_input_that_is_rejected_by_a_stopping_server_uses_its_early_interrupt_up() -> None:
    """It gets no turn; a resend gets the same answer."""
    talk = Talk()
    talk.interrupt(asked_by="later")
    talk.session.shut_down(talk.now)
    for _ in range(2):
        talk.ask(id="later")
    assert [(event.code, event.duplicate) for event in talk.of(InputRejected)] == [
        ("shutting_down", False),
        ("shutting_down", True),
    ]
    assert talk.of(TurnEnded) == []


def test_an_interrupt_is_answered_before_the_end_that_it_causes() -> None:
    """Also when it is deferred and lets a held turn go on."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "x")
    talk.send(TurnHold(turn_id=turn))
    talk.enter_section(turn)
    mark = talk.mark()
    assert talk.interrupt(turn).outcome == "deferred"
    talk.leave_section(turn)
    assert sorted(talk.types(mark)) == ["interrupt.result", "turn.ended", "turn.resumed"]
    assert talk.types(mark)[-1] == "turn.ended"


def test_a_report_in_a_deferred_interrupt_counts_at_the_end() -> None:
    """`heard` is told then, and only then."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "one two")
    talk.enter_section(turn)
    assert talk.interrupt(turn, played=Played(chars=3)).heard is None
    talk.leave_section(turn)
    assert talk.end_of(turn).heard.text == "one"


def test_an_update_is_not_answered_and_a_nested_null_is_a_value() -> None:
    """Only a null at the top removes a key; what is given is merged, not kept."""
    talk = Talk()
    mark = talk.mark()
    talk.send(SessionUpdate(metadata={"a": {"deep": None}, "b": 1}))
    talk.send(SessionUpdate(metadata={"b": None, "c": None}))
    assert talk.mark() == mark
    assert talk.session.metadata == {"a": {"deep": None}}


def test_ids_of_the_two_kinds_are_one_space_also_when_the_answer_was_no() -> None:
    """A rejected input's id and an unknown interrupt's id are used."""
    talk = Talk()
    talk.ask()
    talk.ask(id="a", on_busy="reject")
    talk.interrupt(NOWHERE, id="b")
    talk.send(Interrupt(id=InterruptId("a")))
    talk.send(InputText(id=InputId("b"), text="x"))
    assert [(error.code, error.ref_id) for error in talk.of(ErrorEvent)] == [
        ("id_reused", "a"),
        ("id_reused", "b"),
    ]


GIVEN: dict[str, Answer] = {
    "a": InputAccepted(seq=Seq(3), turn_id=TurnId("t"), input_id=InputId("a")),
    "q": InputQueued(seq=Seq(4), turn_id=TurnId("u"), input_id=InputId("q"), position=2),
    "r": InputRejected(input_id=InputId("r"), code="busy", retry_after_ms=5),
    "x": InterruptResult(interrupt_id=InterruptId("x"), turn_id=TurnId("t"), outcome="interrupted"),
    "y": InterruptResult(interrupt_id=InterruptId("y"), outcome="already_ended", heard=Heard(seq=Seq(2))),
}


def test_a_copy_is_marked_and_carries_no_number_and_is_else_the_same() -> None:
    """For each kind of answer; a number would make a hole or a double."""
    answers = ReplyCache()
    for request_id, answer in GIVEN.items():
        answers.remember(request_id, answer)
    for request_id, answer in GIVEN.items():
        again = answers.again(request_id)
        assert again is not None
        assert again.duplicate
        assert getattr(again, "seq", 0) == 0
        for name in set(answer.__struct_fields__) - {"seq", "duplicate"}:
            assert getattr(again, name) == getattr(answer, name)


def test_an_id_that_was_not_used_has_no_answer() -> None:
    """It is new."""
    assert ReplyCache().again("new") is None


def test_only_the_last_ones_are_remembered() -> None:
    """Memory is bounded; asking again does not make an id younger."""
    answers = ReplyCache()
    for n in range(REMEMBERED):
        answers.remember(f"i{n}", GIVEN["r"])
        assert answers.again("i0") is not None
    answers.remember("one more", GIVEN["r"])
    assert answers.again("i0") is None
    assert answers.again("i1") is not None
    for n in range(3 * REMEMBERED):
        answers.remember(f"j{n}", GIVEN["r"])
    assert len(answers._by_id) == REMEMBERED
