"""What the runner gives an agent."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from bargein_protocol import CallId, ToolOutput, ToolResult, TurnStarted
from bargein_server import Output, Turn, TurnClosed
from memory_client import Line, serve


async def test_a_turn_knows_its_input_history_session_and_usage() -> None:
    """What an agent is given."""
    seen: list[Any] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        turn.session.state["turns"] = turn.session.state.get("turns", 0) + 1
        seen.append((turn.text, turn.history.messages()[-1], turn.session.state["turns"]))
        turn.add_usage(3, 4)
        turn.add_usage(1, 1)
        yield turn.status("s", "i")
        yield turn.thought("t")
        yield turn.progress(1, 2, "u", "l")
        yield turn.data("d", {"k": [1]})

    line = Line(serve(agent))
    line.ask("one")
    await line.until("turn.ended")
    line.ask("two")
    await line.until("turn.ended", 2)
    assert seen == [
        ("one", {"role": "user", "content": "one"}, 1),
        ("two", {"role": "user", "content": "two"}, 2),
    ]
    assert line.types()[3:7] == ["status", "thought", "progress", "data"]
    usage = line.ends()[0].usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (4, 5)
    assert len([event for event in line.events if isinstance(event, TurnStarted)]) == 2


async def test_an_agent_that_emits_without_a_pause_lets_others_run() -> None:
    """Also while its client is away, when nothing ever makes it wait (contract 12)."""

    async def emits(turn: Turn) -> AsyncIterator[Output]:
        yield "first "
        while True:
            await turn.emit("word ")

    sessions = serve(emits)
    line = Line(sessions)
    line.ask()
    line.drop()
    async with asyncio.timeout(10):
        for _ in range(20):
            await asyncio.sleep(0)
    [host] = sessions
    host.act(host.core.shut_down)
    await sessions.shut_down()


async def exits() -> None:
    """End the process, as argparse does."""
    sys.exit(2)


async def presses_ctrl_c() -> None:
    """Raise what a signal raises."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("work", [exits, presses_ctrl_c])
async def test_an_exit_in_a_child_task_is_an_error_of_that_task(
    work: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """It would end the process; the agent may handle it, and its session goes on."""
    errors: list[BaseException] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        try:
            await turn.spawn(work())
        except RuntimeError as error:
            errors.append(error)
        yield "goes on"

    line = Line(serve(agent))
    line.ask()
    await line.until("turn.ended")
    assert line.ends()[0].status == "completed"
    assert isinstance(errors[0].__cause__, (SystemExit, KeyboardInterrupt))


async def test_an_exit_of_an_agent_fails_its_turn() -> None:
    """And of no other."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "word "
        raise KeyboardInterrupt

    line = Line(serve(agent))
    line.ask()
    await line.until("turn.ended")
    assert line.ends()[0].reason == "agent_error"


@pytest.mark.parametrize("outlive", [False, True])
async def test_a_turn_that_completed_spawns_nothing(outlive: bool) -> None:
    """Nothing would end such a task."""
    turns: list[Turn] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        turns.append(turn)
        yield "word "

    line = Line(serve(agent))
    line.ask()
    await line.until("turn.ended")
    with pytest.raises(TurnClosed):
        turns[0].spawn(exits(), outlive=outlive)


class Uses:
    """Uses of a turn that must be on the thread of its loop."""

    @staticmethod
    async def emit(turn: Turn) -> None:
        await turn.emit("word ")

    @staticmethod
    async def spawn(turn: Turn) -> None:
        turn.spawn(exits())

    @staticmethod
    async def uninterruptible(turn: Turn) -> None:
        async with turn.uninterruptible():
            pass

    @staticmethod
    async def http_client(turn: Turn) -> None:
        turn.http_client()

    @staticmethod
    async def add_usage(turn: Turn) -> None:
        turn.add_usage(1, 1)

    @staticmethod
    async def tools(turn: Turn) -> None:
        turn.tools.claim()


@pytest.mark.parametrize("name", [name for name in vars(Uses) if not name.startswith("_")])
async def test_a_turn_is_refused_to_other_threads(name: str) -> None:
    """Numbers would have gaps and go backwards; the error says what to do instead."""
    errors: list[str] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        use = getattr(Uses, name)
        try:
            await asyncio.to_thread(lambda: asyncio.run(use(turn)))
        except RuntimeError as error:
            errors.append(str(error))
        yield "word "

    line = Line(serve(agent))
    line.ask()
    await line.until("turn.ended")
    assert [f"turn.{name}" in error and "from_callbacks" in error for error in errors] == [True]
    assert line.texts() == ["word "]
    assert line.ends()[0].usage is None


@pytest.mark.parametrize("name", ["claim", "begin", "settle", "expect", "run_in_thread"])
async def test_a_ledger_is_refused_to_other_threads(name: str) -> None:
    """Also one that the agent got on the right thread."""
    call_id = CallId("c")
    arguments: dict[str, tuple[Any, ...]] = {
        "claim": (),
        "begin": (call_id, "order", {}),
        "settle": (ToolResult(call_id=call_id, status="completed"),),
        "expect": (call_id, ToolOutput),
        "run_in_thread": (dict,),
    }
    errors: list[str] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        ledger = turn.tools

        async def use() -> None:
            used = getattr(ledger, name)(*arguments[name])
            if inspect.isawaitable(used):
                await used

        try:
            await asyncio.to_thread(lambda: asyncio.run(use()))
        except RuntimeError as error:
            errors.append(str(error))
        yield "word "

    line = Line(serve(agent))
    line.ask()
    await line.until("turn.ended")
    assert [error.split(" outside")[0] for error in errors] == [f"turn.tools.{name}() was called"]
