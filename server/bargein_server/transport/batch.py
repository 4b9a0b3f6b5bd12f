"""Many inputs at once, each in a session of its own that ends with its turn.

An input is answered by the same connection and core as any other; its wire folds the turn in place of
writing it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from bargein_protocol import (
    JSON,
    BatchInput,
    BatchRequest,
    BatchResult,
    ClientEvent,
    Code,
    ErrorEvent,
    InputId,
    InputRejected,
    InputText,
    Interrupt,
    InterruptId,
    SessionClose,
    SessionOpen,
    TurnEnded,
    TurnEvent,
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

Ending = TurnEnded | InputRejected | ErrorEvent | Code


class FoldingWire:
    """A `Wire` that folds the one turn of its session.

    Attributes:
        fold: The turn so far; None before there is one.
        ended: How it ended, or why there is none.
    """

    writable = True
    late = 0

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.fold: TurnFold | None = None
        self.ended: asyncio.Future[Ending] = loop.create_future()

    def write(self, frames: Sequence[bytes]) -> None:
        """Fold frames."""
        for frame in frames:
            event = JSON.decode_server(frame)
            if isinstance(event, TurnEvent):
                self.fold = self.fold or TurnFold(event.turn_id, _INPUT)
                self.fold.apply(event)
            if isinstance(event, (TurnEnded, InputRejected, ErrorEvent)):
                self._end(event)

    def write_soon(self, frame: bytes, now: float) -> None:
        """Fold a frame."""
        self.write((frame,))

    def take_back(self) -> int:
        """Nothing is ever put off."""
        return 0

    def close(self, code: Code) -> None:
        """Take note why the connection was closed."""
        self._end(code)

    def abort(self) -> None:
        """Never called: the wire is always writable."""

    def _end(self, ending: Ending) -> None:
        if not self.ended.done():
            self.ended.set_result(ending)


class Batch:
    """Answers the inputs of one request.

    Args:
        sessions: Where each gets one.
        caller: The client.
        request: What.
        group: Where the work is done; cancelling it ends every turn.

    Attributes:
        results: What came of each input, as they finish.
    """

    def __init__(
        self, sessions: SessionRegistry, caller: Caller, request: BatchRequest, group: asyncio.TaskGroup
    ) -> None:
        limits = sessions.settings
        self.results: asyncio.Queue[BatchResult] = asyncio.Queue()
        self._sessions = sessions
        self._caller = caller
        self._item_s = _at_most(limits.batch_item_s, request.item_timeout_ms)
        self._until = sessions.loop.time() + _at_most(limits.batch_s, request.timeout_ms)
        self._over = False
        todo = iter(enumerate(request.inputs))
        workers = min(limits.max_batch_concurrency, request.concurrency or limits.max_batch_concurrency)
        for _ in range(min(workers, len(request.inputs))):
            group.create_task(self._work(todo))

    async def _work(self, todo: Iterator[tuple[int, BatchInput]]) -> None:
        for index, item in todo:
            if self._over or self._sessions.loop.time() >= self._until:
                result = BatchResult(
                    index=index, id=item.id, status="failed", reason=_TIMEOUT, retryable=True
                )
            else:
                result = await self._answer(index, item)
            self.results.put_nowait(result)

    async def _answer(self, index: int, item: BatchInput) -> BatchResult:
        wire = FoldingWire(self._sessions.loop)
        connection = Connection(wire, JSON, self._sessions, self._caller)

        def send(event: ClientEvent) -> None:
            connection.receive(JSON.encode(event), True)

        left = self._until - self._sessions.loop.time()
        try:
            send(SessionOpen(pending=[InputText(id=_INPUT, text=item.text, metadata=item.metadata)]))
            await asyncio.wait([wire.ended], timeout=min(left, self._item_s))
            in_time = wire.ended.done()
            if not in_time:
                # A timer may fire a hair before the clock says that it is time.
                self._over = self._over or left <= self._item_s
                send(Interrupt(id=InterruptId("x"), input_id=_INPUT, reason=_TIMEOUT, force=True))
        finally:
            send(SessionClose())
            connection.disconnected()
        return _result(index, item, wire, in_time)


def _result(index: int, item: BatchInput, wire: FoldingWire, in_time: bool) -> BatchResult:
    ending = wire.ended.result() if wire.ended.done() else None
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
        text="" if wire.fold is None else whole_text(wire.fold.main_lane),
        usage=usage,
    )


def _at_most(limit_s: float, asked_ms: int | None) -> float:
    return limit_s if asked_ms is None else min(limit_s, asked_ms / 1000)
