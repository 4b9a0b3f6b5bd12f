"""What agents and clients do to the tool calls of a session's turns; see `calls` for the why."""

from __future__ import annotations

from itertools import count

from bargein_protocol import CallId, ToolResult, TurnId
from bargein_protocol.types import MAX_NAME_CHARS

from .calls import Answer, CallLedger, CallRecord
from .commands import DeliverAnswer
from .turn_record import Misuse, State, TurnRecord
from .turn_scheduler import TurnScheduler


class Tools:
    """The tool calls of a session."""

    __slots__ = ("_table",)

    def __init__(self, table: TurnScheduler) -> None:
        self._table = table

    def claim(self, turn_id: TurnId, wanted: str) -> CallId:
        """Return an id that no other call of the session has: `wanted` when it can be had.

        Models' servers give ids that are empty, the same in every answer, or odd. A client's answer
        must never reach another call than the one that its user was asked about.
        """
        turn = self._table.turns.get(turn_id)
        call_id = CallId(wanted)
        if not (0 < len(wanted) <= MAX_NAME_CHARS and wanted.isascii() and wanted.isprintable()):
            call_id = CallId(f"{turn_id}-1")
        numbers = count(2)
        while any(_knows(other, call_id) for other in self._table.turns.values()):
            call_id = CallId(f"{turn_id}-{next(numbers)}")
        if turn is not None:
            _calls(turn).claimed.add(call_id)
        return call_id

    def begin(self, turn_id: TurnId, call: CallRecord) -> bool:
        """Enter that a tool begins, in the step in which it does.

        Returns:
            False when the fence is closed, or closes as soon as a section's output is written: the
            tool must not begin.

        Raises:
            Misuse: The call has begun before.
        """
        turn = self._running(turn_id)
        if turn is None or (turn.deferred is not None and not turn.sections):
            return False
        if not _calls(turn).begin(call):
            raise Misuse(f"can't begin call {call.call_id} twice")
        return True

    def settle(self, turn_id: TurnId, result: ToolResult) -> bool:
        """Enter what came of a call, in the step in which it came.

        After the fence it takes its place in the history, as long as the turn's cleanup lasts; later
        only for calls that go on or cannot be stopped.

        Returns:
            Whether it counts.
        """
        table = self._table
        turn = table.turns.get(turn_id)
        if turn is None or turn.calls is None or (call := turn.calls.runs(result.call_id)) is None:
            return False
        ended = turn.state is State.ENDED
        if ended and not (call.goes_on or call.late or table.cleans(turn_id)):
            return False
        turn.calls.settle(result)
        if ended:
            call.write_into(turn.fold)
        return True

    def expect(self, turn_id: TurnId, call_id: CallId, kind: type[Answer]) -> bool:
        """Let a call wait for the client's answer; False when the fence is closed.

        The answer comes as a `DeliverAnswer` command.
        """
        turn = self._running(turn_id)
        if turn is None:
            return False
        _calls(turn).expect(call_id, kind)
        return True

    def expect_no_more(self, turn_id: TurnId, call_id: CallId) -> None:
        """Let a call not wait any more."""
        turn = self._table.turns.get(turn_id)
        if turn is not None and turn.calls is not None:
            turn.calls.expect_no_more(call_id)

    def receive(self, answer: Answer) -> bool:
        """Take a client's answer; False when no call waits for it."""
        turn = self._table.current
        if turn is None or turn.calls is None or not turn.calls.take(answer):
            return False
        turn.progress_at = self._table.now
        self._table.commands.append(DeliverAnswer(turn.id, answer))
        return True

    def _running(self, turn_id: TurnId) -> TurnRecord | None:
        turn = self._table.current
        return turn if turn is not None and turn.id == turn_id and turn.state is State.RUNNING else None


def _calls(turn: TurnRecord) -> CallLedger:
    if turn.calls is None:
        turn.calls = CallLedger()
    return turn.calls


def _knows(turn: TurnRecord, call_id: CallId) -> bool:
    if turn.calls is not None and call_id in turn.calls.claimed:
        return True
    return any(call_id in lane.tools for lane in turn.fold.lanes.values())
