"""A turn's view of the tool ledger, with futures for awaited answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol, TypeVar, cast

from bargein_protocol import CallId, ToolDecision, ToolOutput, ToolResult, TurnId

from ..agent import TurnClosed
from ..core.author_code import validated_output
from ..core.plain_values import plain_text, plain_value
from ..core.session import Session
from ..core.tool_ledger import Answer, CallRecord
from ..settings import Settings
from .lease import Lease
from .threads import check_loop

T = TypeVar("T")
A = TypeVar("A", ToolOutput, ToolDecision)


class LedgerHost(Protocol):
    """The parts of a session's host that a turn's ledger uses."""

    @property
    def core(self) -> Session:
        """The session's core."""
        ...

    @property
    def settings(self) -> Settings:
        """Settings of the server."""
        ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""
        ...

    @property
    def full(self) -> bool:
        """Whether the turn is held or its client is slow."""
        ...

    @property
    def lease(self) -> Lease | None:
        """The session's hold on the store, if any."""
        ...

    def run_in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a blocking function in a thread of the session."""
        ...

    async def pullable(self) -> None:
        """Wait until `full` may have changed."""
        ...


class TurnToolLedger:
    """Tool ledger of one turn; implements `agent.ToolLedger`.

    Args:
        host: The session's host.
        turn_id: The turn.
    """

    __slots__ = ("_answers", "_host", "_id", "_stopped")

    def __init__(self, host: LedgerHost, turn_id: TurnId) -> None:
        self._host = host
        self._id = turn_id
        self._answers: dict[CallId, asyncio.Future[Any]] = {}
        self._stopped = False

    @property
    def confirm_s(self) -> float:
        """Seconds that a call waits for the user's decision."""
        return self._host.settings.confirm_s

    def claim(self, wanted: str = "") -> CallId:
        """Return an id for a call."""
        check_loop(self._host.loop, "turn.tools.claim()")
        return self._host.core.tools.claim(self._id, wanted)

    async def begin(
        self,
        call_id: CallId,
        name: str,
        arguments: dict[str, Any],
        *,
        source: str = "",
        background: bool = False,
        accept_late: bool = False,
    ) -> None:
        """Record that a tool begins."""
        check_loop(self._host.loop, "turn.tools.begin()")
        host = self._host
        while host.full and not self._stopped:
            await host.pullable()
        given = plain_value(arguments, any_object=True, cut=True)
        call = CallRecord(call_id, plain_text(name), given, plain_text(source), background, accept_late)
        if self._stopped or not host.core.tools.begin(self._id, call):
            raise TurnClosed("the turn has ended")
        if host.lease is not None:
            await self._store_begin(host.lease, call_id)

    async def _store_begin(self, lease: Lease, call_id: CallId) -> None:
        """Wait until a call is stored: one with an effect is never forgotten."""
        try:
            await lease.stored()
            if self._stopped:
                raise TurnClosed("the turn has ended")
        except asyncio.CancelledError:
            never = ToolResult(call_id=call_id, status="cancelled", error="it did not begin")
            self._host.core.tools.settle(self._id, never)
            raise

    def settle(self, result: ToolResult) -> bool:
        """Record the result of a call."""
        check_loop(self._host.loop, "turn.tools.settle()")
        plain, _ = validated_output(result)
        return self._host.core.tools.settle(self._id, cast("ToolResult", plain))

    def run_in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a blocking function in a thread."""
        check_loop(self._host.loop, "turn.tools.run_in_thread()")
        return self._host.run_in_thread(partial(copy_context().run, function))

    def expect(self, call_id: CallId, kind: type[A]) -> asyncio.Future[A]:
        """Return a future for the client's answer."""
        check_loop(self._host.loop, "turn.tools.expect()")
        answer: asyncio.Future[A] = self._host.loop.create_future()
        if self._host.core.tools.expect(self._id, call_id, kind):
            self._answers[call_id] = answer
            answer.add_done_callback(lambda _: self._stop_expecting(call_id, answer))
        else:
            answer.cancel()
        return answer

    def deliver(self, event: Answer) -> None:
        """Resolve the future of a call with the client's answer."""
        answer = self._answers.get(event.call_id)
        if answer is not None and not answer.done():
            cast("asyncio.Future[Answer]", answer).set_result(event)

    def stop(self) -> None:
        """Cancel all futures, because the fence is closed."""
        self._stopped = True
        for answer in list(self._answers.values()):
            answer.cancel()

    def _stop_expecting(self, call_id: CallId, answer: asyncio.Future[Any]) -> None:
        if self._answers.get(call_id) is answer:
            del self._answers[call_id]
            self._host.core.tools.stop_expecting(self._id, call_id)
