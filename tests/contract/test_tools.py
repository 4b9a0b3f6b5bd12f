"""Contract 8: every call has exactly one result, none is lost, none begins behind the fence."""

from __future__ import annotations

from typing import Any

import pytest

from bargein_protocol import (
    CallId,
    ErrorEvent,
    Snapshot,
    StepEnded,
    ToolCall,
    ToolCallDelta,
    ToolConfirm,
    ToolDecision,
    ToolOutput,
    ToolResult,
    ToolRunning,
    TurnId,
)
from bargein_server.core import DeliverAnswer
from bargein_server.core.history import UNKNOWN_EFFECT
from bargein_server.core.tool_ledger import CallRecord
from core_driver import Talk

A, B = CallId("a"), CallId("b")


def begin(
    talk: Talk, turn: TurnId, call: CallId, background: bool = False, accept_late: bool = False
) -> bool:
    """Let a tool begin, without a frame."""
    begun = CallRecord(
        call_id=call, name="order", arguments={"n": 1}, background=background, accept_late=accept_late
    )
    return talk.session.tools.begin(turn, begun)


def settle(talk: Talk, turn: TurnId, call: CallId, output: object = "done") -> bool:
    """Let it return, without a frame."""
    return talk.session.tools.settle(turn, ToolResult(call_id=call, output=output, status="completed"))


def results(talk: Talk) -> list[tuple[str, str]]:
    """Return what the next turn's model is told of tools."""
    messages = talk.heard_by_next(talk.ask("next"))
    return [(m["tool_call_id"], m["content"]) for m in messages if m["role"] == "tool"]


def deliveries(talk: Talk) -> list[DeliverAnswer]:
    return [command for command in talk.commands if isinstance(command, DeliverAnswer)]


def errors(talk: Talk) -> list[tuple[str, str | None]]:
    return [(error.code, error.ref_id) for error in talk.of(ErrorEvent)]


# What the client answers


@pytest.mark.parametrize(
    "answer", [ToolOutput(call_id=A, output={"n": 1}), ToolDecision(call_id=A, allow=False)]
)
def test_an_answer_reaches_the_call_that_waits_for_it_once(answer: ToolOutput | ToolDecision) -> None:
    """The same answer again, or the other kind of it, finds nobody."""
    talk = Talk()
    turn = talk.ask()
    talk.session.tools.expect(turn, A, type(answer))
    other = ToolDecision(call_id=A, allow=True) if isinstance(answer, ToolOutput) else ToolOutput(call_id=A)
    talk.send(other)
    assert errors(talk) == [("unknown_call", A)]
    talk.send(answer)
    assert deliveries(talk) == [DeliverAnswer(turn, answer)]
    talk.send(answer)
    assert errors(talk) == [("unknown_call", A)] * 2
    assert len(deliveries(talk)) == 1


def test_an_answer_after_the_fence_is_too_late() -> None:
    """The turn ended: its calls wait for nothing, and the next turn's calls are others."""
    talk = Talk()
    turn = talk.ask()
    talk.session.tools.expect(turn, A, ToolDecision)
    talk.interrupt(turn)
    talk.ask()
    talk.send(ToolDecision(call_id=A, allow=True))
    assert (errors(talk), deliveries(talk)) == ([("unknown_call", A)], [])
    assert not talk.session.tools.expect(turn, A, ToolDecision)


def test_a_client_that_was_away_answers_when_it_is_back() -> None:
    """A dropped line is no interrupt: the call still waits."""
    talk = Talk()
    turn = talk.ask()
    talk.session.tools.expect(turn, A, ToolDecision)
    talk.emit(turn, ToolConfirm(call_id=A, arguments={}))
    talk.detach()
    talk.wait(60)
    talk.attach(cursor=1)
    talk.send(ToolDecision(call_id=A, allow=True))
    assert deliveries(talk) == [DeliverAnswer(turn, ToolDecision(call_id=A, allow=True))]


def test_a_call_that_waits_no_more() -> None:
    """Its time-out is over: the answer comes too late."""
    talk = Talk()
    turn = talk.ask()
    talk.session.tools.expect(turn, A, ToolOutput)
    talk.session.tools.stop_expecting(turn, A)
    talk.send(ToolOutput(call_id=A))
    assert errors(talk) == [("unknown_call", A)]


@pytest.mark.parametrize("what", ["a tool", "the client"])
def test_silence_is_no_fault_while_a_call_is_open(what: str) -> None:
    """The no-output time-out begins when the tool is done or the client has answered."""
    talk = Talk(no_output_s=10)
    turn = talk.ask()
    if what == "a tool":
        begin(talk, turn, A)
    else:
        talk.session.tools.expect(turn, A, ToolOutput)
    talk.wait(100)
    if what == "a tool":
        settle(talk, turn, A)
    else:
        talk.send(ToolOutput(call_id=A))
    talk.wait(25)
    assert talk.end_of(turn).reason == "no_output"


# Ids


def test_a_call_gets_the_id_that_its_model_gave_it_unless_another_has_it() -> None:
    """A client's answer can never reach another call than the one that was shown."""
    talk = Talk()
    first = talk.ask()
    tools = talk.session.tools
    assert [tools.claim(first, "c0"), tools.claim(first, "c0"), tools.claim(first, "")] == [
        "c0", f"{first}-2", f"{first}-1",
    ]  # fmt: skip
    talk.emit(first, ToolCall(call_id=CallId("shown"), name="x"))
    talk.finish(first)
    second = talk.ask()
    taken = [tools.claim(second, wanted) for wanted in ("c0", "shown", "é", "x" * 200)]
    assert taken == [f"{second}-2", f"{second}-3", f"{second}-1", f"{second}-4"]


# The fence


def test_no_tool_begins_behind_the_fence() -> None:
    """Nor when an interrupt waits only for a section's output to be written."""
    talk = Talk()
    turn = talk.ask()
    talk.interrupt(turn)
    assert not begin(talk, turn, A)
    turn = talk.ask()
    talk.enter_section(turn)
    talk.interrupt(turn)
    assert begin(talk, turn, A)  # a payment, within the section
    talk.open = False
    talk.emit(turn, "protected")
    talk.leave_section(turn)
    assert not begin(talk, turn, B)


def test_a_call_never_runs_twice() -> None:
    """To begin a call a second time is the caller's mistake."""
    talk = Talk()
    turn = talk.ask()
    assert begin(talk, turn, A)
    with pytest.raises(ValueError, match="twice"):
        begin(talk, turn, A)


def test_a_result_that_was_purged_is_not_lost() -> None:
    """The client was slow: neither call, nor result were written, but the order was placed."""
    talk = Talk()
    turn = talk.ask("go")
    talk.open = False
    talk.emit(turn, ToolCall(call_id=A, name="order"), ToolRunning(call_id=A, arguments={"n": 1}))
    begin(talk, turn, A)
    settle(talk, turn, A, {"order": 7})
    talk.emit(turn, ToolResult(call_id=A, output={"order": 7}, status="completed"))
    talk.open = True
    talk.interrupt(turn)
    messages = talk.heard_by_next(talk.ask("next"))
    assert messages[1:4] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": A, "type": "function", "function": {"name": "order", "arguments": '{"n":1}'}}
            ],
        },
        {"role": "tool", "tool_call_id": A, "content": '{"order":7}'},
        {"role": "assistant", "content": "[interrupted]"},
    ]
    assert talk.of(ToolCall) == []


def test_a_result_that_was_not_told_yet_is_not_lost() -> None:
    """The tool returned in the step before the interrupt, its agent had no chance to say so."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, ToolCall(call_id=A, name="order"), ToolRunning(call_id=A, arguments={"n": 1}))
    begin(talk, turn, A)
    settle(talk, turn, A)
    talk.interrupt(turn)
    assert results(talk) == [(A, "done")]


def test_a_call_that_background_is_replaced_in_place() -> None:
    """`running` until it settles, without a frame, and the result only once."""
    talk = Talk()
    turn = talk.ask()
    begin(talk, turn, A, background=True)
    talk.interrupt(turn)
    talk.cleaned_up(turn)
    assert results(talk) == [(A, "running")]
    mark = talk.mark()
    assert settle(talk, turn, A, "late")
    assert not settle(talk, turn, A, "later")
    talk.flush()
    assert talk.mark() == mark
    assert results(talk) == [(A, "late")]


def test_a_call_that_was_cancelled_may_settle_during_the_cleanup_only() -> None:
    """A tool that finishes in spite of its cancel has a result; an abandoned one touches nothing."""
    talk = Talk()
    turn = talk.ask()
    begin(talk, turn, A)
    begin(talk, turn, B)
    talk.interrupt(turn)
    assert settle(talk, turn, A)
    talk.cleaned_up(turn)
    assert not settle(talk, turn, B)
    assert results(talk) == [(A, "done"), (B, "cancelled")]


def test_a_call_that_cannot_be_stopped_may_settle_however_late() -> None:
    """A thread, for one: `cancelled` until it has a result, which is never lost."""
    talk = Talk()
    turn = talk.ask()
    begin(talk, turn, A, accept_late=True)
    talk.interrupt(turn)
    talk.cleaned_up(turn)
    assert results(talk) == [(A, "cancelled")]
    assert settle(talk, turn, A)
    assert results(talk) == [(A, "done")]


def test_what_never_began_has_no_result_to_keep() -> None:
    """A result for a call that nobody began changes nothing."""
    talk = Talk()
    turn = talk.ask()
    assert not settle(talk, turn, A)
    begin(talk, turn, B)
    assert not settle(talk, turn, A)
    talk.interrupt(turn)
    assert results(talk) == [(B, "cancelled")]


def test_a_snapshot_tells_what_came_of_a_call() -> None:
    """A client that missed it all learns the result that came after the fence."""
    talk = Talk(max_log_events=2)
    turn = talk.ask()
    talk.emit(turn, *(f"{n}" for n in range(9)))
    begin(talk, turn, A, background=True)
    talk.interrupt(turn)
    settle(talk, turn, A, "late")
    talk.attach(cursor=1)
    [snapshot] = talk.of(Snapshot)
    [tool] = snapshot.turns[0].lanes[""].tools
    assert (tool.name, tool.given, tool.state, tool.output) == ("order", {"n": 1}, "completed", "late")


# What the model is told


def test_steps_without_text_between_them_are_told_apart() -> None:
    """The second call was made because of the first one's result, not beside it."""
    talk = Talk()
    turn = talk.ask()
    for index, call in enumerate((A, B)):
        talk.emit(turn, ToolCall(call_id=call, name="x"), StepEnded(index=index))
        talk.emit(turn, ToolResult(call_id=call, output=index, status="completed"))
    talk.finish(turn)
    messages = talk.heard_by_next(talk.ask("next"))
    assert [message["role"] for message in messages] == [
        "user", "assistant", "tool", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("functions.order", '{"n":1}', ("functions_order", '{"n":1}')),
        ("x" * 100, "[1]", ("x" * 64, "{}")),
        ("größe", '{"n":', ("gr__e", "{}")),
    ],
)
def test_what_a_model_misspelt_is_told_so_that_the_api_takes_it(
    name: str, arguments: str, told: tuple[str, str]
) -> None:
    """One bad name or half an object would make every later request fail."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, ToolCall(call_id=A, name=name), ToolCallDelta(call_id=A, arguments=arguments))
    talk.interrupt(turn)
    function: dict[str, Any] = talk.heard_by_next(talk.ask())[1]["tool_calls"][0]["function"]
    assert (function["name"], function["arguments"]) == told


def test_what_tools_of_other_voices_did_is_told_when_nobody_merged_it() -> None:
    """A specialist placed an order, then the turn was cut: the next model must know, once."""
    for cut in (True, False):
        talk = Talk()
        turn = talk.ask()
        talk.emit(turn, ToolCall(call_id=B, name="look", source="critic"))
        begun = CallRecord(call_id=A, name="order", arguments={}, source="buyer")
        assert talk.session.tools.begin(turn, begun)
        settle(talk, turn, A)
        if cut:
            talk.interrupt(turn)
        else:
            talk.emit(turn, "Ordered.")
            talk.finish(turn)
        assert results(talk) == ([(A, "done")] if cut else [])


def test_a_refusal_is_told_with_its_reason() -> None:
    """The model learns that its user said no, not only that nothing came of it."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, ToolCall(call_id=A, name="x"))
    talk.emit(turn, ToolResult(call_id=A, error="not allowed by the user", status="cancelled"))
    talk.finish(turn)
    assert results(talk) == [(A, "cancelled: not allowed by the user")]


# Tools without the ledger


def yielded(call: CallId) -> list[Any]:
    return [
        ToolCall(call_id=call, name="order"),
        ToolRunning(call_id=call, arguments={"n": 1}),
        ToolResult(call_id=call, output="done", status="completed"),
    ]


def test_a_result_that_was_only_yielded_survives_the_purge() -> None:
    """The client read too slowly; the tool had run all the same, and the model does not order again."""
    talk = Talk()
    turn = talk.ask()
    talk.emit(turn, "Ordering. ")
    talk.open = False
    talk.emit(turn, *yielded(A), ToolCall(call_id=B, name="order"), ToolRunning(call_id=B, arguments={}))
    talk.interrupt(turn)
    talk.open = True
    messages = talk.heard_by_next(talk.ask("next"))
    assert [message["role"] for message in messages[1:4]] == ["assistant", "tool", "tool"]
    assert [c["function"] for c in messages[1]["tool_calls"]] == [
        {"name": "order", "arguments": '{"n":1}'}, {"name": "order", "arguments": "{}"},
    ]  # fmt: skip
    assert [m["content"] for m in messages[2:4]] == ["done", UNKNOWN_EFFECT]


def test_a_call_that_was_only_announced_and_purged_is_none() -> None:
    """Nobody heard of it, and it did not run."""
    talk = Talk()
    turn = talk.ask()
    talk.open = False
    talk.emit(turn, ToolCall(call_id=A, name="order"))
    talk.interrupt(turn)
    talk.open = True
    assert results(talk) == []


@pytest.mark.parametrize("running", [False, True])
def test_a_result_settles_a_call_that_only_frames_have_reported(running: bool) -> None:
    """Before the fence, and during the cleanup; not later."""
    talk = Talk()
    for cleaned in (False, True):
        turn = talk.ask()
        first, second = CallId(f"{turn}-a"), CallId(f"{turn}-b")
        for call in (first, second):
            talk.emit(turn, *yielded(call)[: 1 + running])
        assert settle(talk, turn, first)
        assert not settle(talk, turn, first)
        talk.interrupt(turn)
        if cleaned:
            talk.cleaned_up(turn)
        assert settle(talk, turn, second) is not cleaned
    told = [content for _, content in results(talk)]
    assert told[:3] == ["done", "done", "done"]
    assert told[3] == (UNKNOWN_EFFECT if running else "cancelled")


def test_a_begun_call_whose_result_is_only_yielded_has_it() -> None:
    """`begin` without `settle`: the frame is as good."""
    talk = Talk()
    turn = talk.ask()
    begin(talk, turn, A)
    talk.open = False
    talk.emit(turn, ToolResult(call_id=A, output="done", status="completed"))
    talk.interrupt(turn)
    talk.open = True
    assert results(talk) == [(A, "done")]
