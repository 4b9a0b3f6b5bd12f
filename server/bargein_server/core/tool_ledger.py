"""Ledger of a session's tool calls: ids, begun calls, results, answers.

Output that an agent yields may be purged by the fence, but the effect of a tool may not: an order that
was placed and forgotten is placed a second time (contract 8). So the begin and the result of a call are
recorded here in the step in which they happen, independently of the frames that report them. The fence
copies the record into the turn's fold, and a later result replaces the entry there without a frame.

Agents that run tools without the ledger only yield frames. What those report is recorded as well, when they
are queued, so that a purge loses no result. A tool that runs without the ledger may have an effect that no
frame reports.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Protocol

from msgspec import Struct

from bargein_protocol import (
    CallId,
    ToolCall,
    ToolDecision,
    ToolOutput,
    ToolResult,
    ToolRunning,
    ToolState,
    TurnFold,
    TurnId,
)
from bargein_protocol.types import MAX_NAME_CHARS, JsonObject

from . import Command, DeliverAnswer

Answer = ToolOutput | ToolDecision
"""An answer of the client to a call that waits for it."""


class CallRecord(Struct):
    """A call that has begun, or that frames have reported.

    Args:
        runs: Whether it has begun.
        source: The lane that it belongs to.
        background: The fence does not cancel it: history holds `running` until it settles.
        accept_late: Its result counts at any time after the fence, because it cannot be stopped.
        result: None while it runs.
    """

    call_id: CallId
    name: str
    arguments: JsonObject
    source: str = ""
    background: bool = False
    accept_late: bool = False
    result: ToolResult | None = None
    runs: bool = True

    def report(self, event: ToolCall | ToolRunning | ToolResult) -> None:
        """Add the content of a frame."""
        if isinstance(event, ToolCall):
            self.name = event.name
        elif isinstance(event, ToolRunning):
            self.arguments, self.runs = event.arguments, True
        elif event.status != "running":
            self.result = event

    def write_report_into(self, fold: TurnFold) -> None:
        """Copy a call that runs without the ledger into the turn's fold."""
        if not self.runs and self.result is None:
            return
        tool = fold.lane(self.source).tool(self.call_id)
        tool.name = tool.name or self.name
        if self.runs and tool.given is None:
            tool.given, tool.state = self.arguments, "running"
        if self.result is not None:
            _copy_result(tool, self.result)

    def write_into(self, fold: TurnFold) -> None:
        """Copy the state of this call into the turn's fold."""
        tool = fold.lane(self.source).tool(self.call_id)
        tool.name = self.name
        tool.given = self.arguments
        if self.result is not None:
            _copy_result(tool, self.result)
        elif self.background:
            tool.state = "background"


class TurnCalls:
    """Tool calls of one turn.

    Attributes:
        claimed: Ids that were given out, whether or not a frame has reported them.
    """

    __slots__ = ("_awaited", "_begun", "_reported", "claimed")

    def __init__(self) -> None:
        self.claimed: set[CallId] = set()
        self._begun: dict[CallId, CallRecord] = {}
        self._reported: dict[CallId, CallRecord] = {}  # by frames alone
        self._awaited: dict[CallId, type[Answer]] = {}

    @classmethod
    def of(cls, begun: list[CallRecord]) -> TurnCalls:
        """Return the calls of a stored turn."""
        calls = cls()
        calls._begun = {call.call_id: call for call in begun}
        calls.claimed = set(calls._begun)
        return calls

    @property
    def begun(self) -> list[CallRecord]:
        """The calls that have begun."""
        return list(self._begun.values())

    @property
    def busy(self) -> bool:
        """Whether a tool runs or a call waits for the client."""
        return bool(self._awaited) or any(call.result is None for call in self._begun.values())

    @property
    def awaits_client(self) -> bool:
        """Whether a call waits for the client's decision or output."""
        return bool(self._awaited)

    def waits_for(self, call_id: str) -> bool:
        """Return whether a call waits for the client's decision or output."""
        return call_id in self._awaited

    @property
    def awaited(self) -> Mapping[CallId, type[Answer]]:
        """The calls that wait for the client, with the type of the answer."""
        return self._awaited

    def begin(self, call: CallRecord) -> bool:
        """Record a call; return False when it has begun before."""
        if call.call_id in self._begun:
            return False
        self._begun[call.call_id] = call
        return True

    def has_begun(self, call_id: CallId) -> bool:
        """Return whether the begin of a call was recorded."""
        return call_id in self._begun

    def report(self, event: ToolCall | ToolRunning | ToolResult) -> None:
        """Record the report of a frame before it is written."""
        call = self._begun.get(event.call_id) or self._reported.get(event.call_id)
        if call is None:
            call = CallRecord(event.call_id, "", {}, event.source, runs=False)
            self._reported[event.call_id] = call
        if call.result is None:
            call.report(event)

    def running(self, call_id: CallId) -> CallRecord | None:
        """Return a call that has no result."""
        call = self._begun.get(call_id) or self._reported.get(call_id)
        return call if call is not None and call.result is None else None

    def expect(self, call_id: CallId, kind: type[Answer]) -> None:
        """Wait for an answer of the client to a call."""
        self._awaited[call_id] = kind

    def stop_expecting(self, call_id: CallId) -> None:
        """Refuse an answer that has not arrived yet."""
        self._awaited.pop(call_id, None)

    def take(self, answer: Answer) -> bool:
        """Return whether a call waits for this answer, and stop waiting for it."""
        if self._awaited.get(answer.call_id) is not type(answer):
            return False
        del self._awaited[answer.call_id]
        return True

    def close(self, fold: TurnFold) -> None:
        """Apply the fence: refuse answers, copy all calls into the turn's fold."""
        self._awaited.clear()
        for call in self._begun.values():
            call.write_into(fold)
        for call_id, call in self._reported.items():
            if call_id not in self._begun:
                call.write_report_into(fold)


class LedgerTurn(Protocol):
    """The parts of a turn's record that the ledger uses.

    Attributes:
        calls: Its tool calls; None before the first.
        progress_at: Time of its last progress, in seconds.
    """

    calls: TurnCalls | None
    progress_at: float

    @property
    def id(self) -> TurnId:
        """The turn's id."""
        ...

    @property
    def fold(self) -> TurnFold:
        """Fold of the turn's events."""
        ...

    @property
    def running(self) -> bool:
        """Whether its agent runs and the fence is open."""
        ...

    @property
    def may_begin_tools(self) -> bool:
        """Whether a tool may begin.

        The turn runs, and no deferred interrupt is about to end it.
        """
        ...

    @property
    def ended(self) -> bool:
        """Whether the fence is closed."""
        ...


class LedgerTurns(Protocol):
    """The parts of a session's turns that the ledger uses.

    Attributes:
        commands: Commands for the host.
        now: The time of the current step, in seconds.
    """

    commands: list[Command]
    now: float

    @property
    def current(self) -> LedgerTurn | None:
        """The current turn."""
        ...

    @property
    def turns(self) -> Mapping[TurnId, LedgerTurn]:
        """All remembered turns."""
        ...

    def cleans(self, turn_id: TurnId) -> bool:
        """Return whether the task of an ended turn is still cleaning up."""
        ...

    def touched(self, turn_id: TurnId) -> None:
        """Record that a turn's record has changed."""
        ...


class ToolLedger:
    """Ledger of the tool calls of a session's turns.

    Every method takes effect in the step in which it is called, so the order of the calls is the order
    of the facts. An id of a turn that is not remembered is legal everywhere; the call then has no effect.
    """

    __slots__ = ("_turns",)

    def __init__(self, turns: LedgerTurns) -> None:
        self._turns = turns

    def claim(self, turn_id: TurnId, wanted: str) -> CallId:
        """Return an id that no other call of the session has.

        It is `wanted` if that is free and legal. Models' servers send ids that are empty, repeated in
        every answer, or malformed. A client's answer must never reach another call than the one that its
        user was asked about.
        """
        turn = self._turns.turns.get(turn_id)
        call_id = CallId(wanted)
        if not (0 < len(wanted) <= MAX_NAME_CHARS and wanted.isascii() and wanted.isprintable()):
            call_id = CallId(f"{turn_id}-1")
        numbers = count(2)
        while any(_uses(other, call_id) for other in self._turns.turns.values()):
            call_id = CallId(f"{turn_id}-{next(numbers)}")
        if turn is not None:
            _calls(turn).claimed.add(call_id)
        return call_id

    def begin(self, turn_id: TurnId, call: CallRecord) -> bool:
        """Record that a tool begins, in the step in which it does.

        Returns:
            False when the tool must not begin: the fence is closed, or closes as soon as a section's
            output is written.

        Raises:
            ValueError: The call has begun before; no call runs twice.
        """
        turn = self._running(turn_id)
        if turn is None or not turn.may_begin_tools:
            return False
        if not _calls(turn).begin(call):
            raise ValueError(f"can't begin call {call.call_id} twice")
        self._turns.touched(turn_id)
        return True

    def settle(self, turn_id: TurnId, result: ToolResult) -> bool:
        """Record the result of a call, in the step in which it exists.

        A call that only frames have reported takes it as well. After the fence a result replaces the call's
        entry in the history: until the turn's cleanup is over, and later only for calls in the background
        and those that cannot be stopped.

        Returns:
            Whether it counts.
        """
        turns = self._turns
        turn = turns.turns.get(turn_id)
        if (
            turn is None
            or turn.fold.dropped
            or turn.calls is None
            or (call := turn.calls.running(result.call_id)) is None
        ):
            return False
        if turn.ended and not (call.background or call.accept_late or turns.cleans(turn_id)):
            return False
        call.result = result
        if turn.ended:
            turn.calls.close(turn.fold)
        self._turns.touched(turn_id)
        return True

    def expect(self, turn_id: TurnId, call_id: CallId, kind: type[Answer]) -> bool:
        """Wait for the client's answer to a call; return False after the fence.

        The answer arrives as a `DeliverAnswer` command.
        """
        turn = self._running(turn_id)
        if turn is None:
            return False
        _calls(turn).expect(call_id, kind)
        return True

    def stop_expecting(self, turn_id: TurnId, call_id: CallId) -> None:
        """Refuse an answer that has not arrived yet."""
        turn = self._turns.turns.get(turn_id)
        if turn is not None and turn.calls is not None:
            turn.calls.stop_expecting(call_id)

    def awaited(self) -> Mapping[CallId, type[Answer]]:
        """Return the calls that wait for the client, with the answer's type."""
        turn = self._turns.current
        return {} if turn is None or turn.calls is None else turn.calls.awaited

    def receive(self, answer: Answer) -> bool:
        """Take a client's answer; return False when no call waits for it."""
        turn = self._turns.current
        if turn is None or turn.calls is None or not turn.calls.take(answer):
            return False
        turn.progress_at = self._turns.now
        self._turns.commands.append(DeliverAnswer(turn.id, answer))
        return True

    def _running(self, turn_id: TurnId) -> LedgerTurn | None:
        turn = self._turns.current
        return turn if turn is not None and turn.id == turn_id and turn.running else None


def _copy_result(tool: ToolState, result: ToolResult) -> None:
    if result.status != "running":
        tool.state, tool.output, tool.error = result.status, result.output, result.error
        tool.duration_ms = result.duration_ms


def _calls(turn: LedgerTurn) -> TurnCalls:
    if turn.calls is None:
        turn.calls = TurnCalls()
    return turn.calls


def _uses(turn: LedgerTurn, call_id: CallId) -> bool:
    if turn.calls is not None and call_id in turn.calls.claimed:
        return True
    return any(call_id in lane.tools for lane in turn.fold.lanes.values())
