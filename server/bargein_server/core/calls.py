"""The tool calls of one turn: what has begun, what came of it, and what waits for the client.

What an agent yields may be purged by a fence, what a tool did may not: an order that was placed and
then forgotten is placed a second time (contract 8). So the begin and the result of a call are entered
here in the step in which they happen, beside the frames that tell of them. The fence writes what the
frames did not tell into the turn's fold, and a result that comes later takes its place there, without
a frame.
"""

from __future__ import annotations

from msgspec import Struct

from bargein_protocol import (
    CallId,
    ToolDecision,
    ToolOutput,
    ToolResult,
    ToolState,
    TurnFold,
)
from bargein_protocol.types import JsonObject

Answer = ToolOutput | ToolDecision
"""What a client sends for a call that waits for it."""


class CallRecord(Struct):
    """A call that has begun.

    Args:
        source: The voice that it belongs to.
        goes_on: It is not cancelled by the fence: history holds `running` until it settles.
        late: It may settle after the fence however late, as what cannot be stopped does.
        result: What came of it; None while it runs.
    """

    call_id: CallId
    name: str
    arguments: JsonObject
    source: str = ""
    goes_on: bool = False
    late: bool = False
    result: ToolResult | None = None

    def write_into(self, fold: TurnFold) -> None:
        """Make the fold tell of this call as it stands."""
        tool = fold.lane(self.source).tool(self.call_id)
        tool.name = self.name
        tool.given = self.arguments
        if self.result is not None:
            _settle(tool, self.result)
        elif self.goes_on:
            tool.state = "background"


class CallLedger:
    """See the module.

    Attributes:
        claimed: Ids that were given out, told to the client or not.
    """

    __slots__ = ("_awaited", "_begun", "claimed")

    def __init__(self) -> None:
        self.claimed: set[CallId] = set()
        self._begun: dict[CallId, CallRecord] = {}
        self._awaited: dict[CallId, type[Answer]] = {}

    @property
    def busy(self) -> bool:
        """Whether a tool works or a call waits for the client."""
        return bool(self._awaited) or any(call.result is None for call in self._begun.values())

    def begin(self, call: CallRecord) -> bool:
        """Enter a call; False when it has begun before: no call runs twice."""
        if call.call_id in self._begun:
            return False
        self._begun[call.call_id] = call
        return True

    def settle(self, result: ToolResult) -> CallRecord | None:
        """Enter what came of a call; None when it never began or has a result."""
        call = self._begun.get(result.call_id)
        if call is None or call.result is not None:
            return None
        call.result = result
        return call

    def runs(self, call_id: CallId) -> CallRecord | None:
        """Return a call that has begun and has no result."""
        call = self._begun.get(call_id)
        return call if call is not None and call.result is None else None

    def expect(self, call_id: CallId, kind: type[Answer]) -> None:
        """Let a call wait for the client."""
        self._awaited[call_id] = kind

    def expect_no_more(self, call_id: CallId) -> None:
        """Let a call not wait any more; what the client sends from here on is too late."""
        self._awaited.pop(call_id, None)

    def take(self, answer: Answer) -> bool:
        """Return whether a call waits for this answer; it waits no more."""
        if self._awaited.get(answer.call_id) is not type(answer):
            return False
        del self._awaited[answer.call_id]
        return True

    def close(self, fold: TurnFold) -> None:
        """Do what the fence does: nobody waits any more, and the fold tells what happened."""
        self._awaited.clear()
        for call in self._begun.values():
            call.write_into(fold)


def _settle(tool: ToolState, result: ToolResult) -> None:
    if result.status != "running":
        tool.state, tool.output, tool.error = result.status, result.output, result.error
        tool.duration_ms = result.duration_ms
