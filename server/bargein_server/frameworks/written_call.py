"""One tool call that a model wrote, its permission, and its result."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Hashable
from typing import Any, NamedTuple

from bargein_protocol import CallId, ToolConfirm, ToolDecision, ToolResult, ToolRunning, ToolStatus
from bargein_protocol.types import MAX_NAME_CHARS, RunsIn
from bargein_server.agent import BadOutput, Turn, plain_value, text_of, validated_output

from ..agents.string_field import StringField

MAX_ERROR_CHARS = 4000
MAX_TEXT_RESULT_CHARS = 100_000
"""Maximum length of a result that can be sent only as its text."""


FinalTool = tuple[str, str]
"""Name of the tool whose call is the answer, and the field of its arguments that holds the text."""


class CallName(NamedTuple):
    """A call whose name may not be complete."""

    stream: Hashable
    given_id: str | None
    name: str


class WrittenCall:
    """A call that the model of this turn wrote.

    Attributes:
        given_id: The id that the framework knows.
        call_id: The id in this session; the same, unless another call has it.
        answer: Reader of the answer's field; None if the call is not the final answer.
        written: Whether the arguments are complete.
        begun: Whether the tool began.
        failure: Error of the last attempt, for as long as the framework may try again.
        error: Exception of the last attempt.
        has_returned: Whether the tool returned, in this turn's tasks.
        returned: What it returned.
        over: Whether its result is known.
        result: The result, until it is sent.
    """

    def __init__(self, given_id: str, call_id: CallId, name: str, final: FinalTool | None) -> None:
        self.given_id = given_id
        self.call_id = call_id
        self.name = name[:MAX_NAME_CHARS]
        self.answer = StringField(final[1]) if final is not None and self.name == final[0] else None
        self.answered = False
        self.pieces: list[str] = []
        self.written = False
        self.begun = False
        self.asked = False
        self.failure: str | None = None
        self.error: Exception | None = None
        self.has_returned = False
        self.returned: object = None
        self.over = False
        self.result: ToolResult | None = None

    def take_result(self) -> ToolResult | None:
        """Return the result, for sending; None if it was sent or is not known."""
        result, self.result = self.result, None
        return result

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as the model wrote them; empty if they are no JSON object."""
        try:
            decoded = json.loads("".join(self.pieces))
        except (ValueError, RecursionError):
            return {}
        return decoded if isinstance(decoded, dict) else {}


class Question:
    """Question to the user whether a call may run.

    Yield or emit `event`, then await `allowed`.

    Attributes:
        event: The event that asks.
    """

    def __init__(self, turn: Turn, event: ToolConfirm) -> None:
        self.event = event
        self._turn = turn
        self._decision = turn.tools.expect(event.call_id, ToolDecision)
        self._until = asyncio.get_running_loop().time() + turn.tools.confirm_s

    async def allowed(self) -> bool:
        """Return the user's decision; False when none came in time."""
        try:
            async with asyncio.timeout_at(self._until):
                return (await self._decision).allow
        except TimeoutError:
            return False
        finally:
            self._decision.cancel()


def running_event(call_id: CallId, arguments: dict[str, Any], runs_in: RunsIn = "server") -> ToolRunning:
    """Return the event of a tool's begin, without unsendable arguments."""
    running = ToolRunning(call_id=call_id, arguments=arguments, runs_in=runs_in)
    try:
        validated_output(running)
    except BadOutput:  # too large, or nested too deeply
        return ToolRunning(call_id=call_id, arguments={}, runs_in=runs_in)
    return running


def completed_result(call_id: CallId, output: Any) -> ToolResult:
    """Return a result in a form that can be sent."""
    result = ToolResult(call_id=call_id, output=sendable(output), status="completed")
    try:
        validated_output(result)
    except BadOutput:  # too large, or nested too deeply
        text = text_of(output)[:MAX_TEXT_RESULT_CHARS]
        return ToolResult(call_id=call_id, output=text, status="completed")
    return result


def failed_result(call_id: CallId, error: str, status: ToolStatus) -> ToolResult:
    """Return the result of a call without success."""
    return ToolResult(call_id=call_id, error=str(error)[:MAX_ERROR_CHARS], status=status)


def sendable(value: Any) -> Any:
    """Return a value as JSON can hold it, as text otherwise, and bounded."""
    return plain_value(value, any_object=True, cut=True)
