"""Agents side by side: all at once, each with its name, ended together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import groupby
from typing import Any

import pytest

from bargein_protocol import Status, TextDelta
from bargein_server import Agent, Output, Turn, TurnFailed
from bargein_server.agents.parallel import ROOM, OnError, Parallel
from memory_client import Line, serve
from waiting import until


def team_of(agents: dict[str, Agent], on_error: OnError = "fail") -> Agent:
    """Return an agent that runs others side by side and then says what came of them."""

    async def lead(turn: Turn) -> AsyncIterator[Output]:
        team = Parallel(turn, agents, on_error)
        async with aclosing(team.outputs()) as outputs:
            async for output in outputs:
                yield output
        for source, branch in team.branches.items():
            yield f"{source}={branch.text if branch.error is None else type(branch.error).__name__};"

    return lead


def taking(seconds: float, *words: str) -> Agent:
    """Return an agent that takes so long."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield turn.status("begun")
        for word in words:
            await asyncio.sleep(seconds / len(words))
            yield word
        yield turn.status("ended")

    return agent


async def fails(turn: Turn) -> AsyncIterator[Output]:
    """Say a word and fail."""
    yield "so "
    raise ValueError("secret detail")


async def fails_upstream(turn: Turn) -> AsyncIterator[Output]:
    """Fail as the agent of a model does."""
    yield "so "
    raise TurnFailed("upstream", retryable=True)


async def cancels_itself(turn: Turn) -> AsyncIterator[Output]:
    """Raise a CancelledError that nobody asked for."""
    yield "so "
    raise asyncio.CancelledError


@pytest.mark.virtual_time
async def test_all_begin_before_any_ends_and_the_slowest_sets_the_time() -> None:
    """Order of events and virtual time, no stopwatch."""
    agents = {"a": taking(3, "x", "y"), "b": taking(7, "x", "y"), "c": taking(5, "x", "y")}
    took: list[float] = []

    async def timed(turn: Turn) -> AsyncIterator[Output]:
        started = asyncio.get_running_loop().time()
        async for output in team_of(agents)(turn):
            yield output
        took.append(asyncio.get_running_loop().time() - started)

    line = Line(serve(timed))
    line.ask()
    while not line.ends():
        await asyncio.sleep(0.5)
    assert took == [7]
    statuses = [(event.source, event.message) for event in line.events if isinstance(event, Status)]
    assert [message for message, _ in groupby(message for _, message in statuses)] == ["begun", "ended"]
    assert [source for source, _ in statuses] == ["a", "b", "c", "a", "c", "b"]
    words = [event.source for event in line.events if isinstance(event, TextDelta) and event.source]
    assert words == ["a", "c", "a", "b", "c", "b"]
    assert "".join(line.texts()[-3:]) == "a=xy;b=xy;c=xy;"


@pytest.mark.parametrize(
    ("failing", "reason"),
    [(fails, "agent_error"), (fails_upstream, "upstream"), (cancels_itself, "agent_error")],
)
async def test_one_fails_all(failing: Agent, reason: str) -> None:
    """The others are cancelled and cleaned up before the turn ends; what was said is kept."""
    cleaned = asyncio.Event()

    async def patient(turn: Turn) -> AsyncIterator[Output]:
        try:
            yield "well "
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    line = Line(serve(team_of({"a": patient, "b": failing})))
    line.ask()
    await line.until("turn.ended")
    [end] = line.ends()
    assert (end.status, end.reason, cleaned.is_set()) == ("failed", reason, True)
    assert sorted(line.texts()) == ["so ", "well "]


@pytest.mark.parametrize("failing", [fails, fails_upstream, cancels_itself])
async def test_one_fails_and_the_others_go_on(failing: Agent) -> None:
    """Its branch says what went wrong, the rest is merged."""
    line = Line(serve(team_of({"a": failing, "b": taking(0, "x")}, "skip")))
    line.ask()
    await line.until("turn.ended")
    assert line.ends()[0].status == "completed"
    assert line.texts()[-1] == "b=x;"


@pytest.mark.parametrize("on_error", ["fail", "skip"])
@pytest.mark.parametrize("moment", ["while they wait", "while they stand at a yield"])
async def test_an_interrupt_ends_all_in_one_step(on_error: OnError, moment: str) -> None:
    """Each gets a CancelledError where it stands, in its own task; nothing is left."""
    ended: list[tuple[str, bool]] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        owner = asyncio.current_task()
        try:
            while True:
                yield "x"
                if moment == "while they wait":
                    await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append((turn.source, asyncio.current_task() is owner and turn.reason == "client"))
            raise

    before = asyncio.all_tasks()
    sessions = serve(team_of({"a": agent, "b": agent, "c": agent}, on_error))
    line = Line(sessions)
    turn = line.ask()
    await line.until("text.delta", 3)
    if moment != "while they wait":
        line.block()
        await until(lambda: all(live.core.full for live in sessions), "back-pressure")
        for _ in range(3 * ROOM):
            await asyncio.sleep(0)
    beside = [task for task in asyncio.all_tasks() if task.get_name() == f"beside turn {turn}"]
    line.interrupt(turn)
    assert [task.cancelling() for task in beside] == [1, 1, 1]
    await until(lambda: asyncio.all_tasks() == before, "the end of all tasks")
    assert sorted(ended) == [("a", True), ("b", True), ("c", True)]
    assert not sessions.abandoned


async def test_a_source_stays_with_who_emits() -> None:
    """`turn.emit` of an agent in the team carries its name too."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        await turn.emit("emitted ")
        await turn.emit(turn.status("too"))
        yield "yielded"

    line = Line(serve(team_of({"a": agent})))
    line.ask()
    await line.until("turn.ended")
    outputs: list[Any] = [event for event in line.events if isinstance(event, (TextDelta, Status))]
    assert [output.source for output in outputs] == ["a", "a", "a", ""]


async def test_a_team_within_a_team() -> None:
    """The innermost name is the source."""
    line = Line(serve(team_of({"outer": team_of({"inner": taking(0, "x")})})))
    line.ask()
    await line.until("turn.ended")
    assert {event.source for event in line.events if isinstance(event, Status)} == {"inner"}
    assert line.texts() == ["x", "inner=x;", "outer=inner=x;;"]


async def test_what_is_no_agent() -> None:
    """A function without a `yield` fails its turn."""
    wrong: Any = lambda turn: iter(())  # noqa: E731
    line = Line(serve(team_of({"a": wrong})))
    line.ask()
    await line.until("turn.ended")
    assert line.ends()[0].reason == "agent_error"
