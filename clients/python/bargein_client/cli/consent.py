"""Tool calls that wait for this client: consent, and client tools."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

import bargein_protocol as bp

from ..errors import BargeinError
from ..events import SessionEvent, TurnSnapshot
from .screen import Screen
from .terminal import escape_json

Policy = Literal["ask", "yes", "no", "refuse"]
"""Answer to tool calls: ask the user, allow, deny, or deny because there is no user to ask."""

REFUSED_EXIT_CODE = 3
"""Exit code when all went well but tools were refused, because there was no user to ask."""

_DECLINED = "the user declined"
_NO_USER = "this client runs no tools, and there is no user to ask"
_PLAIN_NAME = re.compile(r"a tool|[\w.:/-]+")
_YES, _NO = ("/yes", "yes", "y"), ("/no", "no", "n")


class Question(NamedTuple):
    """A call that waits for the user.

    Attributes:
        call_id: The call.
        here: Whether the tool should run in this client, and a result is wanted in place of consent.
        text: The question.
    """

    call_id: bp.CallId
    here: bool
    text: str


class ToolAnswers(Protocol):
    """The parts of a session that answer tool calls."""

    def send_tool_decision(self, call_id: str, *, allow: bool) -> None:
        """Allow or deny a call."""
        ...

    def send_tool_output(self, call_id: str, output: Any = None, *, error: str | None = None) -> None:
        """Send the result of a call."""
        ...


class Consent:
    """Answers the tool calls of a conversation that wait for this client.

    Args:
        session: Takes the answers.
        screen: Output of questions and notices.
        policy: Answer to the calls.
        commands: Whether the user answers with commands between messages; `yes` and `no` alone answer, too.

    Attributes:
        asked: Calls that wait for the user, oldest first.
        refused: Names of the tools that were refused because there was no user to ask.
    """

    def __init__(
        self, session: ToolAnswers, screen: Screen, policy: Policy, *, commands: bool = True
    ) -> None:
        self.asked: list[Question] = []
        self.refused: list[str] = []
        self._session = session
        self._screen = screen
        self._policy = policy
        self._commands = commands
        self._names: dict[bp.CallId, str] = {}
        self._known: set[bp.CallId] = set()
        self._shown: Question | None = None

    def take(self, event: SessionEvent) -> None:
        """Answer the call of an event, or ask the user."""
        if isinstance(event, bp.ToolCall):
            self._names[event.call_id] = event.name
        elif isinstance(event, bp.ToolConfirm):
            self._consider(event.call_id, event.arguments, here=False)
        elif isinstance(event, bp.ToolRunning):
            self._withdraw(event.call_id)
            if event.runs_in == "client":
                self._known.discard(event.call_id)
                self._consider(event.call_id, event.arguments, here=True)
        elif isinstance(event, bp.ToolResult):
            self._withdraw(event.call_id)
        elif isinstance(event, TurnSnapshot):
            for lane in event.state.lanes.values():
                for tool in lane.tools:
                    self._names[tool.call_id] = tool.name
                    if tool.state == "confirming":
                        self._consider(tool.call_id, tool.given or {}, here=False)
        elif isinstance(event, bp.TurnEnded):
            self.asked.clear()

    def answer(self, text: str) -> bool:
        """Take a line of the user; return False when it answers no question.

        Raises:
            BargeinError: The answer could not be sent.
        """
        if not self.asked:
            return False
        call_id, here, _ = self.asked[0]
        word = text.strip()
        if self._commands:
            result = word.removeprefix("/result").strip() if word.startswith("/result") else None
            # A message of one such word is meant as the answer, and as a message would cancel the call.
            yes, no = word.lower() in _YES, word == "/no" or (not here and word.lower() in _NO)
        else:
            result, yes, no = word, word.lower() in _YES, word.lower() in (*_NO, "")
        if here and no:
            self._session.send_tool_output(call_id, error=_DECLINED)
        elif here and result is not None:
            self._session.send_tool_output(call_id, _value(result))
        elif not here and (yes or no):
            self._session.send_tool_decision(call_id, allow=yes)
        else:
            return False
        self._withdraw(call_id)
        return True

    def repeat(self) -> None:
        """Show the question again, after a line that does not answer it."""
        self._shown = None
        self._show_first()

    def give_up(self) -> None:
        """Refuse waiting and later calls: the user cannot answer any more."""
        self._policy = "refuse"
        for question in self.asked:
            self._refuse(question)
        self.asked.clear()

    def _consider(self, call_id: bp.CallId, arguments: dict[str, Any], *, here: bool) -> None:
        if call_id in self._known:
            return
        self._known.add(call_id)
        name = self._names.get(call_id) or "a tool"
        call = f"{_quoted(name)} run here with" if here else f"{_quoted(name)} run with"
        # The question shows exactly what the tool gets.
        call = f"{call} {escape_json(msgspec.json.encode(arguments).decode())}"
        question = Question(call_id, here, call)
        if self._policy == "ask":
            self.asked.append(question)
            self._show_first()
        elif self._policy == "yes" and not here:
            self._decide(question, allow=True)
            self._screen.line("note", f"allowed by --yes: {call}")
        elif self._policy == "no":
            self._decide(question, allow=False)
            self._screen.line("note", f"refused by --no: {call}")
        else:
            self._refuse(question)

    def _refuse(self, question: Question) -> None:
        self._decide(question, allow=False)
        self.refused.append(self._names.get(question.call_id, ""))
        self._screen.line("mark", f"refused: {question.text}; {_reason_of_refusal(question.here)}")

    def _decide(self, question: Question, *, allow: bool) -> None:
        with suppress(BargeinError):  # the session is over, and its end is reported
            if question.here:
                self._session.send_tool_output(question.call_id, error=_NO_USER)
            else:
                self._session.send_tool_decision(question.call_id, allow=allow)

    def _show_first(self) -> None:
        """Show the oldest question, one at a time: answers are for the last."""
        first = self.asked[0] if self.asked else None
        if first is not None and first != self._shown:
            word = "shall" if first.here else "may"
            self._screen.line("mark", f"{word} {first.text}?  {self._choices(first.here)}")
        self._shown = first

    def _choices(self, here: bool) -> str:
        if self._commands:
            return "/result TEXT  /no" if here else "/yes  /no"
        return "type its result, or no" if here else "yes or no"

    def _withdraw(self, call_id: bp.CallId) -> None:
        self.asked = [question for question in self.asked if question.call_id != call_id]
        self._show_first()


def _reason_of_refusal(here: bool) -> str:
    if here:
        return "this command runs no tools, and there is no terminal to ask for a result"
    return "there is no terminal to ask; --yes allows tools, --no denies them"


def refusals(names: Sequence[str], policy: Policy) -> str:
    """Return the notice that tools of a batch were refused, with the remedy."""
    tools = ", ".join(_quoted(name or "a tool") for name in dict.fromkeys(names))
    if policy == "yes":
        return f"a batch cannot run these tools of a client: {tools}"
    return f"tools were refused: {tools}; --yes allows tools, --no denies them without this error"


def _quoted(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else escape_json(msgspec.json.encode(name).decode())


def _value(text: str) -> Any:
    """Return a result as JSON, or as text if it is none."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text
