"""The runner owns the agent's generator for its whole life, whatever the agent does (contract 5)."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bargein_protocol import TurnHold, TurnResume
from bargein_server import Agent, Output, Turn, TurnClosed, TurnFailed
from bargein_server.hosting.registry import SessionRegistry
from hostile_agents import AGENTS, STUBBORN, yields_flat_out
from memory_client import Line, serve
from waiting import until

SHORT = {"cleanup_grace_s": 0.05, "cleanup_kill_s": 0.02}


def name_of(agent: Any) -> str:
    return str(agent.__name__)


async def quiet(sessions: SessionRegistry, live_tasks: set[asyncio.Task[Any]]) -> None:
    """Wait until no task is left but those from before and the abandoned ones."""

    def rest() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - live_tasks - sessions.abandoned

    await until(lambda: not rest(), f"the end of {rest()}")


@pytest.mark.parametrize("agent", AGENTS, ids=name_of)
@pytest.mark.parametrize("moment", ["at once", "after its first output", "while held", "while blocked"])
async def test_every_agent_ends_once_says_nothing_after_and_leaves_no_task(
    agent: Agent, moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One end, nothing of the turn after it, no task left but those that were given up on."""
    caplog.set_level(logging.CRITICAL, "asyncio")
    before = asyncio.all_tasks()
    sessions = serve(agent, **SHORT)
    line = Line(sessions)
    turn = line.ask()
    if moment != "at once":
        await until(lambda: line.texts() or line.ends() or name_of(agent).startswith("waits_before"))
    if moment == "while held":
        line.send(TurnHold(turn_id=turn))
        await asyncio.sleep(0)
    elif moment == "while blocked":
        line.block()
        await asyncio.sleep(0)
    line.interrupt(turn)
    if moment == "while blocked":
        line.block(False)
    [end] = line.ends()
    said = len(line.texts())
    await quiet(sessions, before)
    assert line.ends() == [end]
    assert len(line.texts()) == said
    assert bool(sessions.abandoned) is (agent in STUBBORN and moment != "at once")
    await after_it_the_session_works(line, sessions, agent)
    assert caplog.records == []


async def after_it_the_session_works(line: Line, sessions: SessionRegistry, agent: Agent) -> None:
    """The next turn runs and nothing stale is in it; those that were given up on end at last."""
    sessions.agent = lambda turn: two_words(turn)
    turn = line.ask()
    await until(lambda: any(end.turn_id == turn for end in line.ends()), "the next turn's end")
    of_turn = [event for event in line.events if getattr(event, "turn_id", None) == turn]
    assert [getattr(event, "text", None) for event in of_turn[2:4]] == ["one ", "two"]
    assert "stale" not in line.texts()
    for live in sessions:
        live.context.state["released"] = True
    await until(lambda: not sessions.abandoned, "the abandoned tasks")


async def two_words(turn: Turn) -> AsyncIterator[Output]:
    yield "one "
    yield "two"


async def test_cleanup_runs_in_the_task_of_the_turn_and_may_await() -> None:
    """`finally` sees the reason, the same task, and its awaits complete."""
    seen: list[Any] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        task = asyncio.current_task()
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            seen.append((turn.reason, asyncio.current_task() is task))

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    await until(lambda: seen)
    assert seen == [("client", True)]


async def test_the_end_does_not_wait_for_the_cleanup() -> None:
    """The agent's `finally` waits for an event that is set only after `turn.ended` arrived."""
    ended, cleaned = asyncio.Event(), asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        try:
            yield "x"
            await asyncio.Event().wait()
        finally:
            await ended.wait()
            cleaned.set()

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    assert line.types()[-2:] == ["interrupt.result", "turn.ended"]
    ended.set()
    await until(cleaned.is_set)


@pytest.mark.virtual_time
async def test_a_cleanup_has_its_grace_then_a_second_cancel_then_it_is_abandoned() -> None:
    """2 s, 0.5 s; the abandoned task is counted and kept, and forgotten when it ends."""
    cancels: list[float] = []
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "x"
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                cancels.append(loop.time() - start)

    sessions = serve(agent)
    line = Line(sessions)
    turn = line.ask()
    await line.until("text.delta")
    start = loop.time()
    line.interrupt(turn)
    try:
        await asyncio.sleep(2.4)
        assert not sessions.abandoned
        await asyncio.sleep(0.2)
        assert len(sessions.abandoned) == 1
        assert cancels == [pytest.approx(0), pytest.approx(2)]
    finally:
        release.set()
    await until(lambda: not sessions.abandoned)


async def test_a_turn_that_is_cancelled_before_its_first_step_is_cleaned_up() -> None:
    """Its body is never entered; the done-callback reports, so turns that wait for cleanups start."""
    entered: list[str] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        entered.append(turn.text)
        yield "x"

    line = Line(serve(agent, cleanup="wait"))
    for text in ("one", "two", "three"):
        line.ask(text)
    await line.until("turn.ended", 3)
    assert entered == ["three"]


async def test_an_agents_own_timeout_around_a_yield_works() -> None:
    """The cancel of `asyncio.timeout` lands in our wait and is thrown into the generator, which recovers."""
    loop = asyncio.get_running_loop()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        try:
            async with asyncio.timeout(None) as limit:
                yield "held"
                limit.reschedule(loop.time())
                yield "never sent, but pulled"
                await asyncio.sleep(3600)
        except TimeoutError:
            yield "recovered"

    line = Line(serve(agent))
    line.ask()
    await line.until("turn.ended")
    assert line.texts()[-1] == "recovered"
    assert line.ends()[0].status == "completed"


@pytest.mark.virtual_time
async def test_a_timeout_that_fires_while_the_turn_is_held_reaches_the_agent() -> None:
    """The generator stands at its yield because of a hold; its time-out fires there."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        try:
            async with asyncio.timeout(1):
                for n in range(100):
                    yield f"{n} "
                    await asyncio.sleep(0.1)
        except TimeoutError:
            yield "timed out"

    line = Line(serve(agent, hold_s=100))
    turn = line.ask()
    await line.until("text.delta")
    line.send(TurnHold(turn_id=turn))
    await asyncio.sleep(5)
    assert "timed out" not in line.texts()
    line.send(TurnResume(turn_id=turn))
    await line.until("turn.ended")
    assert line.texts()[-1] == "timed out"
    assert line.ends()[0].status == "completed"


async def test_a_cancel_that_nobody_asked_for_ends_the_turn_as_failed() -> None:
    """An agent that raises CancelledError by itself has an end, and the session goes on."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "x"
        raise asyncio.CancelledError

    line = Line(serve(agent))
    line.ask()
    await line.until("turn.ended")
    assert (line.ends()[0].status, line.ends()[0].reason) == ("failed", "agent_error")


@pytest.mark.parametrize(
    ("error", "reason", "retryable"),
    [
        (ValueError("secret detail"), "agent_error", False),
        (TimeoutError("secret detail"), "timeout", True),
        (TurnFailed("upstream", retryable=True), "upstream", True),
        (TurnFailed("overload"), "overload", False),
    ],
)
async def test_a_failure_is_told_by_its_reason_and_never_by_its_text(
    error: Exception, reason: str, retryable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What was yielded before is kept; the exception's text stays on the server."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "kept"
        raise error

    line = Line(serve(agent))
    line.ask()
    await line.until("turn.ended")
    [end] = line.ends()
    assert (end.status, end.reason, end.retryable) == ("failed", reason, retryable)
    assert line.texts() == ["kept"]
    assert "secret" not in repr(line.events)
    assert caplog.records


async def test_an_agent_that_yields_flat_out_lets_others_speak_and_is_interrupted() -> None:
    """The time slice lets the loop run, so an interrupt is read; few outputs are made after it."""
    sessions = serve(yields_flat_out)
    busy, other = Line(sessions), Line(sessions)
    turn = busy.ask()
    await busy.until("text.delta", 1000)
    other.ask()
    await other.until("text.delta")
    made = len(busy.texts())
    busy.interrupt(turn)
    await until(
        lambda: not any("turn" in task.get_name() and turn in task.get_name() for task in asyncio.all_tasks())
    )
    assert len(busy.texts()) == made


async def test_emit_from_a_child_task_waits_while_the_turn_is_held_and_fails_after_the_fence() -> None:
    """`await turn.emit()` is a yield for callbacks: the same gate, the same back-pressure."""
    outcome: list[object] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        async def child() -> None:
            try:
                while True:
                    await turn.emit("x")
                    await asyncio.sleep(0)
            except TurnClosed as closed:
                outcome.append(closed)
                raise

        task = asyncio.create_task(child())
        yield "first"
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.wait({task})

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta", 5)
    line.send(TurnHold(turn_id=turn))
    for _ in range(5):
        await asyncio.sleep(0)
    held_at = len(line.texts())
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(line.texts()) == held_at
    line.interrupt(turn)
    await until(lambda: outcome)
    assert isinstance(outcome[0], TurnClosed)


async def test_back_pressure_stops_the_agent_and_lets_it_go_on() -> None:
    """A full buffer: the generator is not pulled; when it drains, nothing is missing."""
    made = 0

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        nonlocal made
        for n in range(5000):
            made += 1
            yield f"{n},"

    line = Line(serve(agent, max_queued_output_bytes=8192))
    line.ask()
    line.block()
    await until(lambda: made)
    for _ in range(50):
        await asyncio.sleep(0)
    assert made * len("1234,") < 2 * 8192
    assert line.texts() == []
    line.block(False)
    await line.until("turn.ended")
    assert "".join(line.texts()) == "".join(f"{n}," for n in range(5000))


async def test_nothing_of_one_turns_context_leaks_into_the_next() -> None:
    """A context variable that an agent sets is gone in the next turn, also when that one was queued."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="clean")
    seen: list[str] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        seen.append(variable.get())
        variable.set("dirty")
        yield "x"

    line = Line(serve(agent, on_busy="queue"))
    line.ask()
    line.ask()
    await line.until("turn.ended", 2)
    assert seen == ["clean", "clean"]


async def test_generators_are_closed_by_the_turn_and_not_by_the_collector() -> None:
    """With the collector off and the generator referenced, its `finally` has run when the task ends."""
    kept: list[object] = []
    cleaned: list[bool] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        try:
            while True:
                yield "x"
        finally:
            cleaned.append(True)

    def keeps(turn: Turn) -> AsyncIterator[Output]:
        kept.append(agent(turn))
        return kept[-1]  # type: ignore[return-value]

    gc.disable()
    try:
        line = Line(serve(keeps))
        turn = line.ask()
        await line.until("text.delta")
        line.interrupt(turn)
        await until(lambda: cleaned)
    finally:
        gc.enable()
