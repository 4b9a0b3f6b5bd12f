"""What an agent's tools get from the shell: tasks beside the agent, and answers of the client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from pydantic import BaseModel

from bargein_protocol import (
    CallId,
    ErrorEvent,
    ToolCall,
    ToolConfirm,
    ToolDecision,
    ToolResult,
    ToolRunning,
    TurnHold,
    TurnResume,
)
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


class Booking(BaseModel):
    number: int


class Text(str):
    __slots__ = ()


def results(told: list[list[dict[str, object]]]) -> list[object]:
    """Return the results of tools that the last turn was told."""
    return [message["content"] for message in told[-1] if message["role"] == "tool"]


@pytest.mark.parametrize("ledger", [False, True])
async def test_glue_may_use_the_objects_of_its_framework(ledger: bool) -> None:
    """Names and arguments are subclasses of `str`, the result is a model; ledger and history hold it."""
    told: list[list[dict[str, object]]] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        told.append(turn.history.messages())
        call_id = turn.tools.claim(Text("c"))
        arguments: dict[str, object] = {Text("n"): Text("half \ud83d")}
        result = ToolResult(call_id=call_id, output={"booked": Booking(number=7)}, status="completed")
        yield ToolCall(call_id=call_id, name=Text("book"))
        if ledger:
            await turn.tools.begin(call_id, Text("book"), arguments)
        yield ToolRunning(call_id=call_id, arguments=arguments)
        if ledger:
            assert turn.tools.settle(result)
        yield result
        yield Text("Booked.")
        await asyncio.Event().wait()

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("text.delta")
    [result] = [event for event in line.events if isinstance(event, ToolResult)]
    assert result.output == {"booked": {"number": 7}}
    line.interrupt(turn)
    line.ask()
    await until(lambda: len(told) == 2)
    assert results(told) == ['{"booked":{"number":7}}']
    assert told[1][1]["tool_calls"][0]["function"] == {"name": "book", "arguments": '{"n":"half ?"}'}  # type: ignore[index]


async def test_a_result_that_is_emitted_in_a_hold_is_not_lost() -> None:
    """The frame waits and is refused by the fence; the tool has run."""
    told: list[list[dict[str, object]]] = []
    held, waits = asyncio.Event(), asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        told.append(turn.history.messages())
        call_id = turn.tools.claim()
        yield ToolCall(call_id=call_id, name="book")
        yield ToolRunning(call_id=call_id, arguments={})
        await held.wait()
        waits.set()
        await turn.emit(ToolResult(call_id=call_id, output=Booking(number=7), status="completed"))

    line = Line(serve(agent))
    turn = line.ask()
    await line.until("tool.running")
    line.send(TurnHold(turn_id=turn))
    held.set()
    await waits.wait()
    await asyncio.sleep(0)
    line.interrupt(turn)
    line.ask()
    await until(lambda: len(told) == 2)
    assert results(told) == ['{"number":7}']
