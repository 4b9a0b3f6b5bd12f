"""What an agent's tools get from the shell: tasks beside the agent, and answers of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from bargein_protocol import CallId, ErrorEvent, ToolConfirm, ToolDecision, ToolResult, TurnHold, TurnResume
from bargein_server import Output, Turn, TurnClosed
from bargein_server.hosting.upstream import TURN_STREAMS
from memory_client import Line, serve
from waiting import until

A = CallId("a")


async def forever() -> None:
    """Wait to be cancelled."""
    await asyncio.Event().wait()


async def test_a_decision_reaches_the_agent_that_waits() -> None:
    """Registered before the client is asked, answered once; the second time nobody waits."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        decision = turn.tools.expect(A, ToolDecision)
        yield ToolConfirm(call_id=A, arguments={})
        yield "yes" if (await decision).allow else "no"

    line = Line(serve(agent))
    line.ask()
    await line.until("tool.confirm")
    line.send(ToolDecision(call_id=A, allow=True))
    line.send(ToolDecision(call_id=A, allow=False))
    await line.until("turn.ended")
    assert line.texts() == ["yes"]
    assert [event.code for event in line.events if isinstance(event, ErrorEvent)] == ["unknown_call"]


async def test_who_waits_for_an_answer_is_cancelled_with_the_turn() -> None:
    """An answer cannot come any more; nor can one be asked for."""
    seen: list[bool] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        decision = turn.tools.expect(A, ToolDecision)
        try:
            yield "x"
            await asyncio.shield(decision)
        finally:
            seen.append(decision.cancelled())
            seen.append(turn.tools.expect(A, ToolDecision).cancelled())

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    await until(lambda: len(seen) == 2)
    assert seen == [True, True]


async def test_an_agent_that_waits_no_more_is_not_answered() -> None:
    """It gave up: the client's answer finds nobody."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        turn.tools.expect(A, ToolDecision).cancel()
        yield "x"
        await asyncio.sleep(0)
        yield "y"
        await forever()

    line = Line(serve(agent))
    line.ask()
    await line.until("text.delta", 2)
    line.send(ToolDecision(call_id=A, allow=True))
    assert line.types()[-1] == "error"


async def test_tasks_beside_the_agent_end_in_the_step_of_the_fence() -> None:
    """All of them are asked to, wherever the agent stands; those that outlive the turn are not."""
    tasks: list[asyncio.Task[None]] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        tasks.extend(turn.spawn(forever()) for _ in range(3))
        tasks.append(turn.spawn(forever(), outlive=True))
        yield "x"
        await forever()

    sessions = serve(agent)
    line = Line(sessions)
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    assert [task.cancelling() for task in tasks] == [1, 1, 1, 0]
    await until(lambda: sessions.background == {tasks[3]} and not sessions.abandoned)
    tasks[3].cancel()
    await until(lambda: not sessions.background)


async def test_an_agent_that_returns_leaves_no_task() -> None:
    """What it did not wait for is cancelled; what outlives it is counted."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        turn.spawn(forever())
        yield "x"

    before = asyncio.all_tasks()
    sessions = serve(agent)
    line = Line(sessions)
    line.ask()
    await line.until("turn.ended")
    await until(lambda: asyncio.all_tasks() == before and not sessions.abandoned)


async def test_a_task_that_outlives_the_turn_is_out_of_its_context() -> None:
    """Its HTTP requests are not the turn's, and it is not started when the turn has ended."""
    seen: list[object] = []
    closed = asyncio.Event()

    async def look() -> None:
        seen.append(TURN_STREAMS.get())

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        try:
            await turn.spawn(look())
            await turn.spawn(look(), outlive=True)
            yield "x"
            await forever()
        finally:
            with suppress(TurnClosed):
                turn.spawn(look(), outlive=True)
            closed.set()

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta")
    line.interrupt(turn)
    await closed.wait()
    assert [streams is None for streams in seen] == [False, True]


async def test_no_tool_begins_while_the_turn_is_held() -> None:
    """A hold is a suspicion: what cannot be undone waits until it is decided."""
    begun: list[bool] = []
    go = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "x"
        await go.wait()
        await turn.tools.begin(A, "order", {})
        begun.append(turn.tools.settle(ToolResult(call_id=A, output=1, status="completed")))
        yield "y"

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta")
    line.send(TurnHold(turn_id=turn))
    go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert begun == []
    line.send(TurnResume(turn_id=turn))
    await line.until("turn.ended")
    assert begun == [True]


async def test_a_tool_that_begins_late_is_refused() -> None:
    """The hold was no mistake: the turn is interrupted while the tool waits to begin."""
    go, refused = asyncio.Event(), asyncio.Event()

    async def begin(turn: Turn) -> None:
        with pytest.raises(TurnClosed):
            await turn.tools.begin(A, "order", {})
        refused.set()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "x"
        await go.wait()
        await asyncio.shield(turn.spawn(begin(turn), outlive=True))

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta")
    line.send(TurnHold(turn_id=turn))
    go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    line.interrupt(turn)
    await refused.wait()


async def test_a_shutdown_lets_background_work_finish_within_its_bound() -> None:
    """Then it is cancelled, and no shutdown hangs on it."""
    ended: list[str] = []

    async def work(name: str, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
            ended.append(f"{name} finished")
        except asyncio.CancelledError:
            ended.append(f"{name} cancelled")
            raise

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        turn.spawn(work("quick", 0), outlive=True)
        turn.spawn(work("slow", 3600), outlive=True)
        yield "x"

    sessions = serve(agent, cleanup_grace_s=0.05, cleanup_kill_s=0.02)
    line = Line(sessions)
    line.ask()
    await line.until("turn.ended")
    await sessions.shut_down()
    assert ended == ["quick finished", "slow cancelled"]
