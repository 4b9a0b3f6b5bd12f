"""Agents whose calls return other things than async generators; decorators of libraries make them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bargein_protocol import TurnHold
from bargein_server import Agent, Output, Turn
from bargein_server.agent import NotAnAgent, check_agent
from bargein_server.agents.parallel import Parallel
from memory_client import Line, serve
from waiting import until

STOPS: list[str] = []
"""What the inner agent met, in order."""


async def inner(turn: Turn) -> AsyncIterator[Output]:
    """Say two words and wait; its cleanup may await."""
    try:
        yield "one "
        yield "two"
        await asyncio.Event().wait()
    except BaseException as error:
        STOPS.append(type(error).__name__)
        raise
    finally:
        await asyncio.sleep(0)
        STOPS.append("cleaned")


async def short(turn: Turn) -> AsyncIterator[Output]:
    yield "one "
    yield "two"


class OnlyNext:
    """Wrapper as tracing libraries have it, with as little as `async for` needs."""

    def __init__(self, stream: AsyncIterator[Any]) -> None:
        self.stream = stream

    async def __anext__(self) -> Any:
        return await self.stream.__anext__()


class NextAndIter(OnlyNext):
    def __aiter__(self) -> NextAndIter:
        return self


class WithClose(NextAndIter):
    async def aclose(self) -> None:
        await self.stream.aclose()  # type: ignore[attr-defined]


class SyncClose(NextAndIter):
    """Its `aclose` schedules the close and returns nothing."""

    def aclose(self) -> None:
        asyncio.get_running_loop().create_task(self.stream.aclose())  # type: ignore[attr-defined]


class WithThrow(WithClose):
    async def athrow(self, error: BaseException) -> Any:
        return await self.stream.athrow(error)  # type: ignore[attr-defined]


class Iterable:
    """Has `__aiter__` alone, as an async generator method."""

    def __init__(self, stream: AsyncIterator[Any]) -> None:
        self.stream = stream

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for item in self.stream:
                yield item
        finally:
            await self.stream.aclose()  # type: ignore[attr-defined]


def decorated(agent: Any) -> Any:
    """Wrap an agent in a plain function, as `functools.wraps` decorators do."""

    @functools.wraps(agent)
    def wrapper(turn: Turn) -> Any:
        return agent(turn)

    return wrapper


def awaited(agent: Any) -> Any:
    """Make an agent that is a coroutine function and returns the generator."""

    @functools.wraps(agent)
    async def wrapper(turn: Turn) -> Any:
        await asyncio.sleep(0)
        return agent(turn)

    return wrapper


def in_class(kind: type) -> Callable[[Any], Any]:
    return lambda agent: lambda turn: kind(agent(turn))


def own_class(agent: Any) -> Any:
    """Return a class whose instances are the iterators."""

    class Agentlike(WithClose):
        def __init__(self, turn: Turn) -> None:
            super().__init__(agent(turn))

    return Agentlike


def reply(turn: Turn) -> Any:
    """Be a plain function around a coroutine: `wraps` names something else than what is returned."""

    async def answer(turn: Turn) -> None: ...

    def wrapper(turn: Turn) -> Any:
        return inner(turn)

    return functools.wraps(answer)(wrapper)(turn)


WRAPS: dict[str, Callable[[Any], Any]] = {
    "decorated": decorated,
    "awaited": awaited,
    "awaited and decorated": lambda agent: decorated(awaited(agent)),
    "an awaited object": lambda agent: awaited(in_class(WithClose)(agent)),
    "only next": in_class(OnlyNext),
    "next and iter": in_class(NextAndIter),
    "with close": in_class(WithClose),
    "with sync close": in_class(SyncClose),
    "with throw": in_class(WithThrow),
    "iterable": in_class(Iterable),
    "a class": own_class,
    "a partial": lambda agent: functools.partial(awaited(agent)),
}


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
async def test_it_is_an_agent(wrap: Callable[[Any], Any]) -> None:
    """The start accepts it, and its turn completes."""
    agent = wrap(short)
    check_agent(agent)
    line = Line(serve(agent))
    line.ask()
    await until(lambda: line.ends(), "the end")
    assert ("".join(line.texts()), line.ends()[0].status) == ("one two", "completed")


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("moment", ["at once", "in an await", "while held", "while blocked"])
async def test_a_cut_reaches_it_everywhere(wrap: Callable[[Any], Any], moment: str) -> None:
    """One end, nothing after it, and the cleanup of the agent inside runs."""
    STOPS.clear()
    before = asyncio.all_tasks()
    line = Line(serve(wrap(inner)))
    if moment == "while blocked":
        line.block()
    turn = line.ask()
    if moment == "in an await":
        await until(lambda: line.texts() and line.texts()[-1].endswith("two"), "both words")
        await asyncio.sleep(0)
    elif moment == "while held":
        await until(lambda: line.texts(), "a word")
        line.send(TurnHold(turn_id=turn))
        await asyncio.sleep(0)
    elif moment == "while blocked":
        for _ in range(5):  # until the agent stands at a yield
            await asyncio.sleep(0)
    line.interrupt(turn)
    line.block(False)
    [end] = line.ends()
    said = line.texts()
    await until(lambda: not asyncio.all_tasks() - before, "the end of all tasks")
    if moment != "at once":
        await until(lambda: "cleaned" in STOPS, "the cleanup")
        assert STOPS[0] in ("CancelledError", "GeneratorExit")
    assert (end.reason, line.ends(), line.texts()) == ("client", [end], said)


async def test_an_error_of_it_fails_the_turn() -> None:
    """As an error of a generator does."""

    async def fails(turn: Turn) -> AsyncIterator[Output]:
        yield "one"
        raise ValueError

    for wrap in (in_class(OnlyNext), awaited):
        line = Line(serve(wrap(fails)))
        line.ask()
        await until(line.ends, "the end")
        assert (line.texts(), line.ends()[0].reason) == (["one"], "agent_error")


def nothing(turn: Turn) -> Any:
    """Forget the return."""


def plain_list(turn: Turn) -> Any:
    return ["one"]


async def text(turn: Turn) -> Any:
    return turn.text + "!"


def generator(turn: Turn) -> Any:
    return (word for word in ["one"])


@pytest.mark.parametrize(
    ("agent", "what"),
    [(nothing, "NoneType"), (plain_list, "list"), (text, "str"), (generator, "generator")],
)
async def test_what_only_the_call_shows_fails_the_turn_with_one_line(
    agent: Agent, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the remedy, without a traceback."""
    check_agent(agent)
    line = Line(serve(agent))
    turn = line.ask()
    await until(lambda: line.ends(), "the end")
    assert line.ends()[0].reason == "agent_error"
    [record] = caplog.records
    assert record.getMessage() == (
        f"turn {turn} failed: the agent returned {what}: write `async def` with `yield`, "
        "or return an async iterator"
    )
    assert record.exc_info is None


async def no_yield(turn: Turn) -> None:
    await turn.emit("one")
    if turn.text:
        return


async def constant(turn: Turn) -> str:
    return "one"


def sync_generator(turn: Turn) -> Any:
    yield "one"


class NoAgent:
    def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        return short(turn)


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        (no_yield, "no_yield() has no yield"),
        (constant, "constant() has no yield"),
        (sync_generator, "write `async def sync_generator`"),
        (functools.partial(no_yield), "no_yield() has no yield"),
        (NoAgent, "got the class NoAgent: call it first"),
        ("hello", "got str"),
    ],
)
def test_what_is_certainly_no_agent_is_refused_at_the_start(agent: Any, message: str) -> None:
    """With a message that says what to write."""
    with pytest.raises(NotAnAgent) as caught:
        check_agent(agent)
    assert message in str(caught.value)
    check_agent(NoAgent())
    check_agent(reply)


async def test_agents_of_a_team_may_return_iterators_too() -> None:
    """`Parallel` looks at what a call returns as well."""

    async def team(turn: Turn) -> AsyncIterator[Output]:
        both = Parallel(turn, {name: wrap(short) for name, wrap in WRAPS.items()})
        async for output in both.outputs():
            yield output
        yield ",".join(branch.text for branch in both.branches.values())

    line = Line(serve(team))
    line.ask()
    await until(lambda: line.ends(), "the end")
    assert line.texts()[-1] == ",".join(["one two"] * len(WRAPS))
