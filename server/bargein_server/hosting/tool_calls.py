"""The tool calls of one turn, as its agent enters them: the shell's side of `core.tools`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, cast

from bargein_protocol import CallId, ToolDecision, ToolOutput, ToolResult, TurnId

from ..agent import TurnClosed
from ..core.calls import Answer, CallRecord

if TYPE_CHECKING:
    from .host import SessionHost

A = TypeVar("A", ToolOutput, ToolDecision)


class RunnerCalls:
    """See `agent.Calls`."""

    __slots__ = ("_answers", "_id", "_live", "_stopped")

    def __init__(self, live: SessionHost, turn_id: TurnId) -> None:
        self._live = live
        self._id = turn_id
        self._answers: dict[CallId, asyncio.Future[Any]] = {}
        self._stopped = False

    @property
    def confirm_s(self) -> float:
        """How long a call waits for the user's decision."""
        return self._live.settings.confirm_s

    def claim(self, wanted: str = "") -> CallId:
        """Return an id for a call."""
        return self._live.core.tools.claim(self._id, wanted)

    async def begin(
        self,
        call_id: CallId,
        name: str,
        arguments: dict[str, Any],
        *,
        source: str = "",
        goes_on: bool = False,
        late: bool = False,
    ) -> None:
        """Enter that a tool begins."""
        live = self._live
        while live.full and not self._stopped:
            await live.pullable()
        call = CallRecord(call_id, name, arguments, source, goes_on, late)
        if self._stopped or not live.core.tools.begin(self._id, call):
            raise TurnClosed("the turn has ended")

    def settle(self, result: ToolResult) -> bool:
        """Enter what came of a call."""
        return self._live.core.tools.settle(self._id, result)

    def expect(self, call_id: CallId, kind: type[A]) -> asyncio.Future[A]:
        """Return the client's answer to come."""
        answer: asyncio.Future[A] = self._live.loop.create_future()
        if self._live.core.tools.expect(self._id, call_id, kind):
            self._answers[call_id] = answer
            answer.add_done_callback(lambda _: self._give_up(call_id, answer))
        else:
            answer.cancel()
        return answer

    def deliver(self, event: Answer) -> None:
        """Hand over what the client answered."""
        answer = self._answers.get(event.call_id)
        if answer is not None and not answer.done():
            cast("asyncio.Future[Answer]", answer).set_result(event)

    def stop(self) -> None:
        """Let nobody wait any more: the fence is closed."""
        self._stopped = True
        for answer in list(self._answers.values()):
            answer.cancel()

    def _give_up(self, call_id: CallId, answer: asyncio.Future[Any]) -> None:
        if self._answers.get(call_id) is answer:
            del self._answers[call_id]
            self._live.core.tools.expect_no_more(self._id, call_id)
