"""Interrupts of the tool loop: what is cancelled, what goes on, and what the history says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bargein_protocol import (
    CallId,
    Status,
    ToolCall,
    ToolConfirm,
    ToolDecision,
    ToolResult,
    ToolRunning,
)
from bargein_server import Turn
from bargein_server.agents.tools import tool
from memory_client import Line
from scripted_model import call, say
from tool_conversation import Conversation, Serve, add, tool_results
from waiting import until


@contextmanager
def gate() -> Iterator[threading.Event]:
    """Hold a thread until the block ends."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()


async def interrupted(talk: Conversation, condition: Callable[[], Any]) -> list[str]:
    """Interrupt when the condition holds; return the tool results that the next turn's model gets."""
    turn = talk.line.ask()
    await until(condition, "the moment of the interrupt")
    talk.line.interrupt(turn)
    assert talk.end.status == "interrupted"
    return await tool_results(talk)


async def test_a_tool_is_cancelled_by_default(converse: Serve) -> None:
    """It gets a CancelledError, may clean up, and the next turn's model knows."""
    cleaned = asyncio.Event()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    talk = converse([call("wait")], tools=[wait])
    assert await interrupted(talk, lambda: talk.of(ToolRunning)) == ["cancelled"]
    await cleaned.wait()


async def test_a_tool_that_finishes_in_the_background(converse: Serve) -> None:
    """History says `running`, then the result in its place; it never runs twice."""
    go, calls = asyncio.Event(), []

    @tool(on_interrupt="finish")
    async def order(turn: Turn) -> str:
        calls.append(turn.id)
        await go.wait()
        return "ordered"

    talk = converse([call("order")], tools=[order])
    assert await interrupted(talk, lambda: calls) == ["running"]
    go.set()
    await until(lambda: not talk.sessions.background)
    assert await tool_results(talk) == ["ordered"]
    assert len(calls) == 1


async def test_a_background_tool_is_bounded_by_its_time_out(converse: Serve) -> None:
    """It is cancelled when it is over, and history says what came of it."""
    calls = []

    @tool(on_interrupt="finish", timeout_s=0.01)
    async def hang() -> None:
        calls.append(1)
        await asyncio.Event().wait()

    talk = converse([call("hang")], tools=[hang])
    assert (await interrupted(talk, lambda: calls))[0] in ("running", "error: no result within 0.01 s")
    await until(lambda: not talk.sessions.background)
    assert await tool_results(talk) == ["error: no result within 0.01 s"]


async def test_a_background_tool_that_yields_goes_on(converse: Serve) -> None:
    """What it says reaches nobody and holds it up in nothing."""
    begun, go = asyncio.Event(), asyncio.Event()

    @tool(on_interrupt="finish")
    async def chatty() -> AsyncIterator[Any]:
        begun.set()
        await go.wait()
        for n in range(100):
            yield Status(message=str(n))
        yield "done"

    talk = converse([call("chatty")], tools=[chatty])
    assert await interrupted(talk, begun.is_set) == ["running"]
    go.set()
    await until(lambda: not talk.sessions.background)
    assert await tool_results(talk) == ["done"]
    assert talk.of(Status) == []


async def test_a_thread_cannot_be_killed(converse: Serve) -> None:
    """It is `cancelled` for the model, until it returns: a result that exists is never lost."""
    begun = threading.Event()
    with gate() as go:

        def order() -> str:
            begun.set()
            go.wait(10)
            return "ordered"

        talk = converse([call("order")], tools=[order])
        assert await interrupted(talk, begun.is_set) == ["cancelled"]
    await until(lambda: "ordered" in outputs(talk), "the thread's result")
    assert await tool_results(talk) == ["ordered"]


async def test_blocked_threads_of_a_session_delay_no_other(converse: Serve) -> None:
    """Interrupted plain tools block on; a plain tool of another session runs immediately."""
    begun: list[int] = []
    with gate() as go:

        def block() -> str:
            begun.append(1)
            go.wait(10)
            return "late"

        def quick() -> str:
            return "quick"

        blocking = [call("block")] * 40
        talk = converse(blocking, [call("quick")], [say("Done.")], tools=[block, quick])
        turn = talk.line.ask()
        await until(lambda: len(begun) >= 4, "the threads")
        talk.line.interrupt(turn)
        other = Line(talk.sessions)
        other.ask()
        await asyncio.wait_for(other.until("turn.ended"), 5)
        [result] = [event for event in other.events if isinstance(event, ToolResult)]
        assert result.output == "quick"


async def test_a_call_whose_time_is_over_does_not_begin(converse: Serve) -> None:
    """The model was told that there is no result; a thread that becomes free must not make one."""
    begun: list[str] = []
    with gate() as go:

        def block() -> str:
            begun.append("block")
            go.wait(10)
            return "late"

        def order() -> str:
            begun.append("order")
            return "ordered"

        late = tool(timeout_s=0.05)(order)
        talk = converse([*[call("block")] * 8, call("order")], [say("Sorry.")], tools=[block, late])
        talk.line.ask()
        await until(lambda: talk.of(ToolResult), "the result of the call that waits")
        assert talk.result.error == "no result within 0.05 s"
    await until(talk.line.ends, "the end of the turn")
    assert begun == ["block"] * 8


def outputs(talk: Conversation) -> list[Any]:
    """Return what the session holds of the first turn's tools."""
    [live] = talk.sessions
    return [tool.output for tool in live.core.turn(talk.line.ends()[0].turn_id).fold.main_lane.tools.values()]


async def test_no_tool_begins_when_the_stream_named_it_before_the_fence(converse: Serve) -> None:
    """The interrupt comes with the model's last words: named, and never run."""
    ran = []

    async def order() -> None:
        ran.append(1)

    talk = converse([call("order")], tools=[order])
    assert await interrupted(talk, lambda: talk.of(ToolCall)) in (["cancelled"], [])
    assert ran == []


async def test_an_interrupt_while_the_client_is_asked(converse: Serve) -> None:
    """Its late decision finds nobody."""
    talk = converse([call("add", a=1, b=2)], tools=[tool(confirm=True)(add)])
    assert await interrupted(talk, lambda: talk.of(ToolConfirm)) == ["cancelled"]
    talk.line.send(ToolDecision(call_id=CallId(talk.of(ToolConfirm)[0].call_id), allow=True))
    assert talk.line.types()[-1] == "error"
