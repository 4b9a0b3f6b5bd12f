"""Tool calls that wait for the command: consent, and tools that run in the client."""

from __future__ import annotations

from typing import Any

import pytest

import bargein_protocol as bp
from bargein_client.cli.consent import Consent, Policy, refusals
from bargein_client.errors import SessionClosed
from bargein_client.events import SessionEvent, TurnSnapshot
from client_script import ended
from paper import Paper

T = bp.TurnId("t_1")
C = bp.CallId("c_1")
D = bp.CallId("c_2")


class Answered:
    """Session that writes the answers down."""

    def __init__(self) -> None:
        self.answers: list[tuple[Any, ...]] = []
        self.over = False

    def send_tool_decision(self, call_id: str, *, allow: bool) -> None:
        if self.over:
            raise SessionClosed
        self.answers.append((call_id, allow))

    def send_tool_output(self, call_id: str, output: Any = None, *, error: str | None = None) -> None:
        self.answers.append((call_id, output, error))


class Asking:
    """A consent with its session and its screen."""

    def __init__(self, policy: Policy, *, commands: bool = True) -> None:
        self.session = Answered()
        self.paper = Paper()
        self.consent = Consent(self.session, self.paper, policy, commands=commands)

    def take(self, *events: SessionEvent) -> None:
        for event in events:
            self.consent.take(event)


def confirm(call_id: bp.CallId = C, name: str = "send_mail", **arguments: Any) -> tuple[SessionEvent, ...]:
    """Return a call that waits for consent."""
    return (
        bp.ToolCall(seq=bp.Seq(3), turn_id=T, call_id=call_id, name=name),
        bp.ToolConfirm(seq=bp.Seq(4), turn_id=T, call_id=call_id, arguments=arguments),
    )


def here(call_id: bp.CallId = C, name: str = "locate") -> tuple[SessionEvent, ...]:
    """Return a call of a tool that runs in the client."""
    return (
        bp.ToolCall(seq=bp.Seq(3), turn_id=T, call_id=call_id, name=name),
        bp.ToolRunning(seq=bp.Seq(4), turn_id=T, call_id=call_id, arguments={}, runs_in="client"),
    )


def test_the_question_shows_exactly_what_the_tool_gets() -> None:
    """Nothing in a name or an argument is hidden, reordered, or looks like a question."""
    asking = Asking("ask")
    asking.take(*confirm(C, "look?  /yes", path="a\u202e\u200db\n"))
    assert asking.paper.lines == [r'may "look?  /yes" run with {"path":"a\u202e\u200db\n"}?  /yes  /no']


@pytest.mark.parametrize(
    ("commands", "word", "answer"),
    [
        (True, "/yes", (C, True)),
        (True, "/no", (C, False)),
        (True, "yes", (C, True)),
        (True, "N", (C, False)),
        (False, "yes", (C, True)),
        (False, " Y ", (C, True)),
        (False, "no", (C, False)),
        (False, "", (C, False)),
    ],
)
def test_the_user_decides(commands: bool, word: str, answer: tuple[Any, ...]) -> None:
    """An answer is taken once; without a question it is a message."""
    asking = Asking("ask", commands=commands)
    asking.take(*confirm(to="ann"))
    assert asking.session.answers == []
    assert asking.consent.answer(word)
    assert not asking.consent.answer(word)
    assert asking.session.answers == [answer]
    assert asking.consent.refused == []


@pytest.mark.parametrize(("commands", "word"), [(True, "yes, please"), (True, ""), (False, "perhaps")])
def test_any_other_line_answers_nothing(commands: bool, word: str) -> None:
    """The question stays."""
    asking = Asking("ask", commands=commands)
    asking.take(*confirm())
    assert not asking.consent.answer(word)
    assert asking.session.answers == []


@pytest.mark.parametrize(
    ("commands", "line", "answer"),
    [
        (True, "/result at home", (C, "at home", None)),
        (True, '/result {"city": "Bern"}', (C, {"city": "Bern"}, None)),
        (True, "/no", (C, None, "the user declined")),
        (False, "[1, 2]", (C, [1, 2], None)),
        (False, "no", (C, None, "the user declined")),
    ],
)
def test_the_user_runs_a_tool_of_the_client(commands: bool, line: str, answer: tuple[Any, ...]) -> None:
    """The result is JSON, or a text."""
    asking = Asking("ask", commands=commands)
    asking.take(*here())
    assert asking.paper.lines[0].startswith("shall locate run here with {}?")
    assert asking.consent.answer(line)
    assert asking.session.answers == [answer]


def test_one_question_at_a_time() -> None:
    """Of calls in parallel the next question follows the answer: nobody allows the wrong one."""
    asking = Asking("ask")
    asking.take(*confirm(C, "one"), *confirm(D, "two"))
    assert [line.split()[1] for line in asking.paper.lines] == ["one"]
    asking.consent.answer("/no")
    assert [line.split()[1] for line in asking.paper.lines] == ["one", "two"]
    asking.consent.answer("/yes")
    assert asking.session.answers == [(C, False), (D, True)]


def test_a_question_that_is_over_is_withdrawn() -> None:
    """By a result, such as after a timeout, and by the end of the turn."""
    asking = Asking("ask")
    asking.take(*confirm(C, "one"), *confirm(D, "two"))
    asking.take(bp.ToolResult(seq=bp.Seq(5), turn_id=T, call_id=C, status="cancelled"))
    assert [line.split()[1] for line in asking.paper.lines] == ["one", "two"]
    asking.take(ended(6, T))
    assert not asking.consent.answer("/yes")


@pytest.mark.parametrize(
    ("policy", "decision", "word", "refused"),
    [
        ("yes", True, "allowed by --yes: send_mail run with {}", []),
        ("no", False, "refused by --no: send_mail run with {}", []),
        (
            "refuse",
            False,
            "refused: send_mail run with {}; there is no terminal to ask; --yes",
            ["send_mail"],
        ),
    ],
)
def test_nobody_is_asked(policy: Policy, decision: bool, word: str, refused: list[str]) -> None:
    """The answer is given at once and shown; only a refusal without a choice of the user counts."""
    asking = Asking(policy)
    asking.take(*confirm())
    assert asking.session.answers == [(C, decision)]
    assert asking.paper.lines[0].startswith(word)
    assert asking.consent.refused == refused


@pytest.mark.parametrize("policy", ["yes", "no", "refuse"])
def test_a_tool_of_the_client_fails_without_a_user(policy: Policy) -> None:
    """The command runs no tools, whatever is allowed."""
    asking = Asking(policy)
    asking.take(*here())
    assert asking.session.answers == [(C, None, "this client runs no tools, and there is no user to ask")]
    assert asking.consent.refused == ([] if policy == "no" else ["locate"])


def test_the_end_of_the_input_refuses() -> None:
    """Questions that wait, and later ones."""
    asking = Asking("ask")
    asking.take(*confirm(C))
    asking.consent.give_up()
    asking.take(*confirm(D))
    assert asking.session.answers == [(C, False), (D, False)]


def test_a_snapshot_asks_what_was_missed() -> None:
    """A call that began to wait while the client was away is asked about, once."""
    tool = bp.ToolState(call_id=C, name="send_mail", given={"to": "ann"}, state="confirming")
    state = bp.TurnState(turn_id=T, lanes={"": bp.LaneState(tools=[tool])})
    asking = Asking("ask")
    asking.take(TurnSnapshot(turn_id=T, state=state), TurnSnapshot(turn_id=T, state=state))
    assert asking.paper.lines == ['may send_mail run with {"to":"ann"}?  /yes  /no']


def test_an_answer_after_the_end_of_the_session() -> None:
    """A policy is silent about it, because the end is reported; the user's own answer raises."""
    quiet, asking = Asking("no"), Asking("ask")
    for one in (quiet, asking):
        one.session.over = True
        one.take(*confirm())
    with pytest.raises(SessionClosed):
        asking.consent.answer("/yes")


def test_the_words_for_a_batch() -> None:
    """Each tool once, and the remedy that there is."""
    assert refusals(["a", "b", "a", ""], "refuse").startswith("tools were refused: a, b, a tool; --yes")
    assert "--yes" not in refusals(["a"], "yes")
