"""The answers that were given, by the id of what they answer."""

from __future__ import annotations

from bargein_protocol import (
    Heard,
    InputAccepted,
    InputId,
    InputQueued,
    InputRejected,
    InterruptId,
    InterruptResult,
    Seq,
    TurnId,
)
from bargein_server.core.reply_cache import REMEMBERED, Answer, ReplyCache

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
