"""The record of one turn: its waiting output (`test_lifecycle` has its states)."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bargein_protocol import (
    AgentOutput,
    CallId,
    InputId,
    InputText,
    Seq,
    Status,
    ToolCall,
    ToolConfirm,
    ToolResult,
    ToolRunning,
    TurnId,
)
from bargein_server.core.lifecycle import GUARDED, Event, Flow
from bargein_server.core.text_run import MAX_UNSETTLED
from bargein_server.core.turn_record import FRAME_BYTES, TurnRecord


def new_turn() -> TurnRecord:
    return TurnRecord(TurnId("t"), InputText(id=InputId("i"), text="hello"), False)


TEXTS = st.text("ab", min_size=1, max_size=10)
ACTIONS = st.one_of(
    st.tuples(st.just("text"), TEXTS),
    st.tuples(st.just("event"), st.integers(1, 500)),
    st.tuples(st.sampled_from(["take", "texts", "enter", "leave", "defer"]), st.none()),
    st.tuples(st.just("purge"), st.booleans()),
)


def is_plain_text(entry: tuple[object, int, bool]) -> bool:
    return type(entry[0]) is str and not entry[2]


class Books:
    """A list of what waits: output, size, protected."""

    def __init__(self) -> None:
        self.turn = new_turn()
        self.waiting: list[tuple[object, int, bool]] = []

    def put(self, output: str | AgentOutput, size: int) -> None:
        turn = self.turn
        if turn.sections or turn.flow is not Flow.CUT_PENDING:
            self.waiting.append((output, size, turn.sections > 0))

    def act(self, what: str, argument: Any) -> None:
        turn = self.turn
        if what == "text":
            turn.put_text(argument)
            self.put(argument, len(argument) + FRAME_BYTES)
        elif what == "event":
            status = Status(message=str(len(self.waiting)))
            turn.put(status, argument)
            self.put(status, argument)
        elif what == "take":
            assert turn.take() == (self.waiting.pop(0)[0] if self.waiting else None)
        elif what == "texts":
            self.take_texts()
        elif what == "enter":
            turn.advance(Event.PROTECT)
            turn.sections += 1
        elif what == "leave":
            turn.sections = max(0, turn.sections - 1)
        elif what == "defer":
            turn.flow = Flow.CUT_PENDING if turn.flow in GUARDED else turn.flow
        else:
            turn.purge(spare_sections=argument)
            self.waiting = [entry for entry in self.waiting if argument and entry[2]]

    def take_texts(self) -> None:
        plain = [output for output, *_ in takewhile(is_plain_text, self.waiting)]
        assert list(self.turn.next_texts()) == plain
        if plain:
            most = len(plain) // 2 + 1
            self.turn.drop_texts(self.turn.next_texts()[:most])
            del self.waiting[:most]

    def check(self) -> None:
        assert self.turn.queued_bytes == sum(size for _, size, _ in self.waiting)
        protected = self.turn.sections > 0 or any(entry[2] for entry in self.waiting)
        assert self.turn.section_over == (self.turn.guarded and not protected)


@given(st.lists(ACTIONS, max_size=50))
def test_the_books_are_right_whatever_waits(actions: list[tuple[str, Any]]) -> None:
    """What waits comes out in order; its size is never negative, and zero when nothing waits."""
    books = Books()
    for what, argument in actions:
        books.act(what, argument)
        books.check()
    while books.waiting:
        books.act("take", None)
        books.check()
    assert (books.turn.take(), books.turn.queued_bytes) == (None, 0)


def test_a_long_queue_is_read_in_portions() -> None:
    """The time of a write does not depend on what waits behind it."""
    turn = Books().turn
    for number in range(3 * MAX_UNSETTLED):
        turn.put_text(f"{number}")
    texts = turn.next_texts()
    assert list(texts) == [f"{number}" for number in range(MAX_UNSETTLED)]
    turn.drop_texts(texts)
    assert turn.next_texts()[0] == f"{MAX_UNSETTLED}"


def test_a_tool_that_works_or_waits_for_a_decision_is_seen() -> None:
    """In any voice of the turn; a call that is only written or has its result is not."""
    turn = new_turn()
    seen = []
    for seq, event in enumerate(
        [
            ToolCall(call_id=CallId("c"), name="n"),
            ToolConfirm(call_id=CallId("c"), arguments={}),
            ToolRunning(call_id=CallId("c"), arguments={}),
            ToolResult(call_id=CallId("c"), status="completed"),
            ToolRunning(call_id=CallId("d"), arguments={}, source="other"),
            ToolResult(call_id=CallId("d"), status="running", source="other"),
        ],
        1,
    ):
        turn.fold.apply(replace(event, seq=Seq(seq), turn_id=TurnId("t")))
        seen.append(turn.runs_tool)
    assert seen == [False, True, True, False, True, False]
