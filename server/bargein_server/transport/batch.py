"""Batches: many inputs in one request, each answered in its own session.

A session ends with its turn. An input is answered by the same connection and core as any other. Its wire
writes nothing: the result is read from the turn's state in the core.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from bargein_protocol import (
    JSON,
    BatchInput,
    BatchRequest,
    BatchResult,
    CallId,
    Code,
    ErrorEvent,
    InputId,
    InputRejected,
    InputText,
    Interrupt,
    InterruptId,
    SessionClose,
    SessionOpen,
    ToolDecision,
    ToolOutput,
    TurnEnded,
    TurnFold,
    TurnStatus,
    Usage,
)
from bargein_protocol.errors import Action, code_named

from ..core.heard_position import whole_text
from ..guard.admission import Caller
from ..hosting.registry import SessionRegistry
from .connection import Connection

_INPUT = InputId("in")
_TIMEOUT = "timeout"
_NO_CLIENT = "a batch has no client that runs tools"

Ending = TurnEnded | InputRejected | ErrorEvent | Code


class _NullWire:
    """A `Wire` without a socket.

    Attributes:
        frames: Frames that were written before the input got its turn.
        closed: Code with which it was closed.
    """

    writable = True

    def __init__(self) -> None:
        self.frames: list[bytes] | None = []
        self.closed: Code | None = None

    def write(self, frames: Sequence[bytes]) -> None:
        """Keep frames while the input may still be rejected."""
        if self.frames is not None:
            self.frames += frames

    def close(self, code: Code) -> None:
        """Record the code."""
        self.closed = code

    def abort(self) -> None:
        """Do nothing: the wire is always writable, and never aborted."""


class BatchConnection(Connection):
    """Connection that drives the session of one input.

    Its session ends with the request, so no store keeps it. A tool call that waits for the client is
    answered immediately, because a batch has nobody to ask.

    Args:
        registry: Registry of the session.
        caller: The client.
        allow_tools: Whether tool calls that need consent may run.

    Attributes:
        ended: Done when the input has its final result.
        ending: The end of its turn, or the reason why it has none; None before the end.
        refused: Tool calls that were not allowed.
    """

    kept = False

    def __init__(self, registry: SessionRegistry, caller: Caller, *, allow_tools: bool = False) -> None:
        self._null_wire = wire = _NullWire()
        super().__init__(wire, JSON, registry, caller)
        self.ended: asyncio.Future[None] = registry.loop.create_future()
        self.ending: Ending | None = None
        self.refused: list[CallId] = []
        self._allow_tools = allow_tools

    @property
    def fold(self) -> TurnFold | None:
        """Folded events of the turn; None before there is one."""
        return self._host.core.side_channel.turn_of(_INPUT) if self._host is not None else None

    def write_out(self) -> None:
        """Drop the frames of the core, and check for the end of the turn."""
        super().write_out()
        if self._host is not None and self._host.core.side_channel.is_over(_INPUT):
            fold = self.fold
            ending = self._rejection() if fold is None else fold.ended
            if ending is not None:
                self._end(ending)
        elif self._host is not None:
            self._null_wire.frames = None
            if self._host.core.tools.awaited():
                # Not within the step of the core in which the call begins to wait.
                self._registry.loop.call_soon(self._answer_calls)

    def close(self, code: Code) -> None:
        """End the connection with a code."""
        super().close(code)
        self._end(code)

    def _answer_calls(self) -> None:
        if self._host is None or self._closing:
            return
        for call_id, kind in list(self._host.core.tools.awaited().items()):
            allowed = kind is ToolDecision and self._allow_tools
            if not allowed:
                self.refused.append(call_id)
            if kind is ToolDecision:
                self.take(ToolDecision(call_id=call_id, allow=allowed))
            else:
                self.take(ToolOutput(call_id=call_id, error=_NO_CLIENT))

    def _rejection(self) -> Ending | None:
        for frame in self._null_wire.frames or ():
            event = JSON.decode_server(frame)
            if isinstance(event, (InputRejected, ErrorEvent)):
                return event
        return None

    def _end(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ending = ending
            self.ended.set_result(None)


class Batch:
    """Inputs of one request, and their results.

    Args:
        registry: Registry in which each input gets a session.
        caller: The client.
        request: The request.
        group: Task group of the work; cancelling it ends every turn.

    Attributes:
        results: The results, in the order in which they are complete.
    """

    def __init__(
        self, registry: SessionRegistry, caller: Caller, request: BatchRequest, group: asyncio.TaskGroup
    ) -> None:
        limits = registry.settings
        self.results: asyncio.Queue[BatchResult] = asyncio.Queue()
        self._registry = registry
        self._caller = caller
        self._allow_tools = request.allow_tools
        self._item_s = _at_most(limits.batch_item_s, request.item_timeout_ms)
        self._until = registry.loop.time() + _at_most(limits.batch_s, request.timeout_ms)
        self._over = False
        todo = iter(enumerate(request.inputs))
        workers = min(limits.max_batch_concurrency, request.concurrency or limits.max_batch_concurrency)
        for _ in range(min(workers, len(request.inputs))):
            group.create_task(self._work(todo))

    async def _work(self, todo: Iterator[tuple[int, BatchInput]]) -> None:
        for index, item in todo:
            if self._over or self._registry.loop.time() >= self._until:
                result = BatchResult(
                    index=index, id=item.id, status="failed", reason=_TIMEOUT, retryable=True
                )
            else:
                result = await self._answer(index, item)
            self.results.put_nowait(result)

    async def _answer(self, index: int, item: BatchInput) -> BatchResult:
        connection = BatchConnection(self._registry, self._caller, allow_tools=self._allow_tools)
        left = self._until - self._registry.loop.time()
        try:
            question = InputText(
                id=_INPUT, text=item.text, metadata=item.metadata, attachments=item.attachments
            )
            connection.take(SessionOpen(pending=[question]))
            await asyncio.wait([connection.ended], timeout=min(left, self._item_s))
            in_time = connection.ended.done()
            if not in_time:
                # A timer may fire slightly before its time on the clock.
                self._over = self._over or left <= self._item_s
                connection.take(Interrupt(id=InterruptId("x"), input_id=_INPUT, reason=_TIMEOUT, force=True))
            return _result(index, item, connection, in_time)
        finally:
            connection.take(SessionClose())
            connection.disconnected()


def _result(index: int, item: BatchInput, connection: BatchConnection, in_time: bool) -> BatchResult:
    ending, fold = connection.ending, connection.fold
    status: TurnStatus = "failed"
    usage: Usage | None = None
    reason, retryable = _TIMEOUT, True
    if isinstance(ending, TurnEnded):
        usage = ending.usage
        if in_time:
            status, reason, retryable = ending.status, ending.reason, ending.retryable
    elif ending is not None:
        code = ending if isinstance(ending, Code) else code_named(ending.code)
        reason = ending.name if isinstance(ending, Code) else ending.code
        retryable = code is not None and code.action is not Action.STOP
    return BatchResult(
        index=index,
        id=item.id,
        status=status,
        reason=reason,
        retryable=retryable,
        text="" if fold is None else whole_text(fold.main_lane),
        usage=usage,
        refused_tools=[] if fold is None else _names(fold, connection.refused),
    )


def _names(fold: TurnFold, calls: Sequence[CallId]) -> list[str]:
    """Return the names of tools without repetition."""
    tools = {call_id: tool for lane in fold.lanes.values() for call_id, tool in lane.tools.items()}
    return list(dict.fromkeys(tools[call_id].name for call_id in calls if call_id in tools))


def _at_most(limit_s: float, asked_ms: int | None) -> float:
    return limit_s if asked_ms is None else min(limit_s, asked_ms / 1000)
