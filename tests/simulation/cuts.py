"""Runs a turn, counts the points at which its tasks are suspended, and interrupts it at any of them.

A point is a suspension of the turn's task or of any task that was created in the turn. The interrupt
comes over the wire, in the step after the suspension (`early`), or in the step in which the wait is over,
just before the task would go on (`late`). The whole oracle of the simulation looks on.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Literal

from msgspec import Struct

import bargein_protocol as bp
from bargein_server import Agent
from bargein_server.hosting.upstream import TURN_STREAMS
from bargein_server.settings import Settings
from valid_history import check_valid

from .network import Link, SimulatedFlushScheduler, Weather
from .oracle import Oracle, Truth
from .seams import seeded
from .tcp import TcpLoop
from .trace import Trace
from .witness import Witness
from .world import WatchedSessions

Mode = Literal["early", "late"]

CALM = Weather(delay_s=0.0, window=1 << 20, high_water=1 << 20, unread=1 << 20, split=0.0, defers=0.0)
REASON = "for first"

Stage = Callable[[Oracle], Coroutine[Any, Any, Agent]]
"""Sets the stage: returns the agent, after whatever it needs was started."""


class Report(Struct):
    """What came of a run.

    Args:
        points: How often tasks of the turn were suspended, until its end.
        cut_at: At which of them it was interrupted; None when it was not.
        outcome: The answer to the interrupt.
        end: The turn's end.
        abandoned: How many of its tasks were given up on.
        digest: The hash of everything that happened.
        faults: What the oracle found.
    """

    points: int
    cut_at: int | None
    outcome: str | None
    end: bp.TurnEnded | None
    abandoned: int
    digest: str
    faults: list[str]


class _CutLoop(TcpLoop):
    """A loop that counts the suspensions of turns' tasks."""

    def __init__(self, chance: random.Random, suspended: Callable[[Any], None]) -> None:
        super().__init__(chance)
        self._suspended = suspended

    def create_task(
        self, coro: Any, *, name: Any = None, context: Context | None = None, **options: Any
    ) -> Any:
        """Create a task. Those of turns have names; what agents create themselves is in a turn's context."""
        if TURN_STREAMS.get() is not None or str(name).startswith(("turn ", "beside turn ")):
            coro = _Counted(coro, self._suspended)
        return super().create_task(coro, name=name, context=context, **options)

    def next(self, callback: Callable[[], None], context: Context) -> None:
        """Run a callback in the next step, before everything else that is ready."""
        self._ready.appendleft(asyncio.Handle(callback, (), self, context))


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine whose suspensions are told."""

    def __init__(self, work: Coroutine[Any, Any, Any], suspended: Callable[[Any], None]) -> None:
        self._work = work
        self._suspended = suspended

    def send(self, value: Any) -> Any:
        """Go on."""
        waits_for = self._work.send(value)
        self._suspended(waits_for)
        return waits_for

    def throw(self, *error: Any) -> Any:
        """Go on with an exception."""
        waits_for = self._work.throw(*error)
        self._suspended(waits_for)
        return waits_for

    def close(self) -> None:
        """End it."""
        self._work.close()

    def __await__(self) -> Any:
        return self._work.__await__()

    def __getattr__(self, name: str) -> Any:
        """Return what libraries look at, such as `cr_running`."""
        return getattr(self._work, name)


class CutRun:
    """One run.

    Args:
        stage: Gives the agent.
        text: The input.
        cut_at: The point; 0 is the step in which the input is read; None for no interrupt.
        mode: When, at that point.
        limit: For agents that go on for ever: the last point that is counted; there the turn is ended.
    """

    def __init__(self, stage: Stage, text: str, cut_at: int | None, mode: Mode, limit: int | None) -> None:
        self.loop = _CutLoop(random.Random("cut"), self._suspended)
        self.trace = Trace(self.loop.time)
        self.oracle = Oracle(self.trace, self.loop.time, lambda: None)
        self._outside = copy_context()
        self._stage = stage
        self._text = text
        self._cut_at = cut_at
        self._mode = mode
        self._limit = limit
        self._points = 0
        self._was_cut_at: int | None = None
        self._events: list[bp.ServerEvent | bp.UnknownEvent] = []
        self._abandoned = 0

    def run(self) -> Report:
        """Let it happen."""
        logging.disable(logging.CRITICAL)
        gc.disable()
        try:
            with seeded(random.Random("server"), self.loop.look_at_clock, self._new_log):
                self.loop.run_until_complete(self._run())
        finally:
            # First: the collector would schedule the ends of generators on a loop that runs no more.
            self.loop.close()
            gc.enable()
            logging.disable(logging.NOTSET)
        ends = [event for event in self._events if isinstance(event, bp.TurnEnded)]
        self.oracle.expect(len(ends) >= 1, "the turn has no end")
        results = [event for event in self._events if isinstance(event, bp.InterruptResult)]
        return Report(
            points=self._points,
            cut_at=self._was_cut_at,
            outcome=results[0].outcome if results else None,
            end=ends[0] if ends else None,
            abandoned=self._abandoned,
            digest=self.trace.digest(),
            faults=self.oracle.faults,
        )

    def _new_log(self, max_events: int, max_bytes: int) -> Truth:
        return Truth(max_events, max_bytes, self.oracle)

    # --- the cut ---------------------------------------------------------------------------------

    def _suspended(self, waited_for: Any) -> None:
        if self._over():
            return
        self._points += 1
        if self._points == (self._cut_at or self._limit):
            interrupt = partial(self._interrupt, self._points)
            if self._mode == "late" and isinstance(waited_for, asyncio.Future):
                waited_for.add_done_callback(lambda _: interrupt(), context=self._outside)
            else:
                self.loop.next(interrupt, self._outside)
        elif self._limit and self._points == 2 * self._limit:
            # Others go on for ever, and what was to be waited for never comes.
            self.loop.next(partial(self._interrupt, self._cut_at or 0), self._outside)

    def _over(self) -> bool:
        return any(truth.ends for truth in self.oracle.truths.values())

    def _interrupt(self, point: int) -> None:
        if self._was_cut_at is None:
            self._was_cut_at = point
            self._send(bp.Interrupt(id=bp.InterruptId("cut"), input_id=bp.InputId("first"), reason=REASON))

    def _send(self, event: bp.ClientEvent) -> None:
        self._link.read(bp.JSON.encode(event))

    # --- the run ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        settings = Settings(
            cleanup_grace_s=1.0, cleanup_kill_s=0.5, no_output_s=20.0, drain_s=0.0, confirm_s=5.0
        )
        agent = await self._stage(self.oracle)
        sessions = WatchedSessions(agent, settings)
        sessions.oracle = self.oracle
        sessions.flush_scheduler = SimulatedFlushScheduler(self.loop, random.Random("scheduler"), CALM)
        witness = Witness("client", self.oracle)
        self._link = Link(self.loop, random.Random("link"), CALM, self.oracle, sessions, witness)
        reader = self.loop.create_task(self._read())
        self._send(bp.SessionOpen())
        self._send(bp.InputText(id=bp.InputId("first"), text=self._text))
        if self._cut_at == 0:
            self._interrupt(0)
        while not self._over():
            await asyncio.sleep(0.1)
        await asyncio.sleep(2.0)  # the agent's cleanup, the second cancel, and the end of patience
        self._abandoned = len(sessions.abandoned)
        self._ask_again(sessions)
        self._send(bp.SessionClose())
        await asyncio.sleep(20.0)
        await sessions.shut_down()
        close = getattr(agent, "shutdown", None)
        if close is not None:
            await close()
        await asyncio.wait([reader])
        await asyncio.sleep(1.0)
        self._check_residue(sessions)

    def _ask_again(self, sessions: WatchedSessions) -> None:
        """Hold what the next turn is told against what the API demands."""
        [live] = sessions
        self._send(bp.InputText(id=bp.InputId("next"), text=self._text))
        turn = live.core._turns.by_input[bp.InputId("next")]
        try:
            check_valid(live.core.history(turn.id).messages(), self._text)
        except AssertionError as error:
            self.oracle.expect(False, f"the next turn is told an invalid history: {error}")
        live.view.state["released"] = True

    async def _read(self) -> None:
        try:
            while True:
                self._events.append(await self._link.line.receive())
        except Exception as over:
            self.oracle.trace.note("client", "is over", repr(over).encode())

    def _check_residue(self, sessions: WatchedSessions) -> None:
        expect, loop = self.oracle.expect, self.loop
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        expect(not tasks, f"tasks are left: {tasks}")
        expect(not loop.timers(), f"timers are left: {loop.timers()}")
        expect(not loop.transports, f"sockets are left: {loop.transports}")
        expect(not (len(sessions) or sessions.abandoned or sessions.background), "sessions are left")
        expect(not loop.complaints, f"the loop complained: {loop.complaints}")
