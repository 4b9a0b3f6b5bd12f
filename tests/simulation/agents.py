"""Agents that do what an input's text asks for: `kind seed`, all of them in bounded time.

`STALE` is what they say when they know that their turn is over. What they are told of the conversation
is held against the API of chat completions, and what their tools do against contract 8.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from json import dumps
from typing import Any

import bargein_protocol as bp
from bargein_server import Output, Turn, TurnClosed, TurnFailed
from bargein_server.agent import NamedCall
from bargein_server.agents.tool_loop import ToolRunner
from bargein_server.agents.tools import Tool, ToolError, tool, toolset
from valid_history import check_valid

from .oracle import SECTION_BEGINS, SECTION_ENDS, STALE, Oracle

Kind = Callable[["Agents", Turn, random.Random], AsyncIterator[Output]]

LONGEST_S = 20.0
"""No agent works for longer when nobody holds it up."""


class Agents:
    """The agent of a simulated server.

    Args:
        oracle: What is known of the run.
    """

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._asked: dict[bp.TurnId, str] = {}
        self._began: Counter[str] = Counter()
        self._did: dict[bp.SessionId, dict[str, str]] = {}

    async def __call__(self, turn: Turn) -> AsyncIterator[Output]:
        """Answer as the input asks."""
        kind, _, seed = turn.text.partition(" ")
        self._oracle.kinds[turn.id] = kind
        self.check_history(turn)
        said = self._oracle.said
        answers = KINDS.get(kind, talks)  # somebody may only have agreed
        async with aclosing(answers(self, turn, random.Random(seed))) as outputs:  # type: ignore[type-var]
            async for output in outputs:
                if kind in ONLY_YIELD and isinstance(output, str):
                    said[turn.id] = said.get(turn.id, "") + output
                yield output

    def check_history(self, turn: Turn) -> None:
        """Hold what the turn is told against what the API demands, and against what the tools did."""
        oracle = self._oracle
        try:
            results = check_valid(turn.history.messages(), turn.text)
        except AssertionError as error:
            oracle.expect(False, f"{turn.id} is told an invalid history: {error}")
            return
        if turn.text.partition(" ")[0] in KINDS:  # no two of them are alike
            self._asked[turn.id] = turn.text
        told = {message["content"] for message in turn.history.messages() if message["role"] == "user"}
        for other in oracle.truths[turn.session.id].dropped:
            oracle.expect(
                self._asked.get(other, "") not in told, f"{turn.id} is told {other}, which was dropped"
            )
        for call_id, result in self._did.get(turn.session.id, {}).items():
            oracle.expect(
                results.get(call_id, result) == result, f"{turn.id}: the result of {call_id} is lost"
            )

    def is_told(self, turn: Turn) -> None:
        """The end of its turn reaches an agent that waits."""
        ended_at = self._oracle.truths[turn.session.id].ended_at.get(turn.id)
        late_s = 0.0 if ended_at is None else self._oracle.now() - ended_at
        self._oracle.expect(late_s < 0.01, f"{turn.id} was told of its end {late_s} s late")

    def begins(self, turn: Turn, key: str) -> None:
        """A tool begins."""
        truth, call = self._oracle.truths[turn.session.id], f"{turn.session.id} {turn.id} {key}"
        self._began[call] += 1
        self._oracle.expect(self._began[call] == 1, f"{call} ran twice")
        self._oracle.expect(turn.id not in truth.ends, f"{call} began behind the fence")

    def did(self, turn: Turn, call_id: str, result: str) -> None:
        """A tool returned, in a step in which its turn had not ended."""
        self._did.setdefault(turn.session.id, {})[call_id] = result


async def _pause(chance: random.Random, most_s: float = 0.3) -> None:
    """Wait: for nothing, for one iteration, or for a time."""
    drawn = chance.random()
    if drawn < 0.2:
        await asyncio.sleep(0)
    elif drawn < 0.8:
        await asyncio.sleep(chance.random() ** 2 * most_s)


def _word(chance: random.Random) -> str:
    return f"{'word' * chance.randint(0, 3)}{chance.randint(0, 99)} "


# --- well behaved --------------------------------------------------------------------------------------


async def talks(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """A word now and then."""
    for _ in range(chance.randint(0, 30)):
        yield _word(chance)
        await _pause(chance)


async def gushes(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Never suspends."""
    for _ in range(chance.choice([20, 100, 1000])):
        yield _word(chance)


async def floods(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Says much at once."""
    for _ in range(chance.randint(1, 5)):
        yield "x" * chance.choice([1, 5000, 60_000])
        await _pause(chance, 0.05)


async def shows_everything(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Every kind of output."""
    ms = 0
    for number in range(chance.randint(1, 12)):
        outputs: list[Output] = [
            turn.status(_word(chance)),
            turn.thought(_word(chance)),
            turn.progress(number, 12),
            turn.data("thing", {"number": number}),
            bp.AudioDelta(audio=b"\0\0" * 80, start_ms=ms, duration_ms=5, text=_word(chance)),
            bp.TextDelta(text=_word(chance), source="another"),
            bp.StepEnded(index=number, kind="step"),
        ]
        output = chance.choice(outputs)
        ms += 5 * isinstance(output, bp.AudioDelta)
        yield output
        await _pause(chance)


async def speaks(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Words of 100 ms, made a little faster than they are played."""
    if turn.audio is None:
        yield _word(chance)
        return
    for number in range(chance.randint(1, 30)):
        sound = b"\1\0" * (turn.audio.rate // 100)
        yield bp.AudioDelta(audio=sound, start_ms=100 * number, duration_ms=100, text=_word(chance))
        await asyncio.sleep(0.09)


async def protects(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Sections that cannot be interrupted, one in another too."""
    yield "before "
    for _ in range(chance.randint(1, 2)):
        async with turn.uninterruptible():
            yield SECTION_BEGINS
            await _pause(chance)
            async with turn.uninterruptible():
                yield _word(chance)
            await _pause(chance)
            yield SECTION_ENDS
        await _pause(chance)
        yield "between "


async def emits(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Children speak for it."""

    async def child(words: int) -> None:
        for _ in range(words):
            await turn.emit(_word(chance))
            await _pause(chance)

    children = [turn.spawn(child(chance.randint(1, 8))) for _ in range(chance.randint(1, 3))]
    yield "children: "
    await asyncio.gather(*children)
    yield "over"


# --- tools ---------------------------------------------------------------------------------------------


def _tools(agents: Agents, turn: Turn, chance: random.Random) -> dict[str, Tool]:
    async def works(key: str) -> str:
        agents.begins(turn, key)
        await _pause(chance, 1.0)
        if chance.random() < 0.2:
            raise ToolError("it did not work")
        return f"did {key}"

    @tool
    async def search(key: str) -> str:
        """Search."""
        return await works(key)

    @tool(on_interrupt="finish", timeout_s=5)
    async def order(key: str) -> str:
        """Order."""
        return await works(key)

    @tool(confirm=True)
    async def pay(key: str) -> str:
        """Pay."""
        return await works(key)

    @tool(runs_in="client", timeout_s=3)
    async def look(key: str) -> str:
        """Look, in the client."""
        return key

    @tool(timeout_s=0.5)
    async def stall(key: str) -> str:
        """Take too long."""
        agents.begins(turn, key)
        await asyncio.sleep(3600)
        return key

    return toolset([search, order, pay, look, stall])


async def uses_tools(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """A step or two of a tool loop."""
    for step in range(chance.randint(1, 2)):
        tools = _tools(agents, turn, chance)
        named = []
        for number in range(chance.randint(1, 4)):
            key = f"{step}.{number}"
            name = chance.choice([*tools, "search", "order"])
            named.append(NamedCall(turn.tools.claim(), name, dumps({"key": key})))
            yield bp.ToolCall(call_id=bp.CallId(named[-1].call_id), name=name)
        calls = ToolRunner(turn, tools, named)
        async with aclosing(calls.outputs()) as outputs:
            async for output in outputs:
                yield output
                if isinstance(output, bp.ToolResult) and output.status == "completed":
                    agents.did(turn, output.call_id, str(output.output))
        yield _word(chance)


# --- badly behaved -------------------------------------------------------------------------------------


async def fails(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Ends in one of the ways in which agents fail."""
    for _ in range(chance.randint(0, 3)):
        yield _word(chance)
        await _pause(chance)
    errors = [
        ValueError(STALE),
        TurnFailed("upstream", retryable=True),
        TimeoutError(),
        asyncio.CancelledError(),
    ]
    if error := chance.choice([None, *errors]):
        raise error
    task = asyncio.current_task()
    assert task is not None
    task.cancel()  # as a library that mistakes the task for its own
    await asyncio.sleep(0)


async def hangs(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Says nothing any more."""
    yield _word(chance)
    try:
        await asyncio.Event().wait()
    finally:
        agents.is_told(turn)


async def swallows(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Goes on after each cancel."""
    for _ in range(chance.randint(1, 10)):
        try:
            yield _word(chance)
            await _pause(chance, 1.0)
        except asyncio.CancelledError:
            yield STALE


async def cleans_slowly(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Its cleanup takes a while, or longer than it may."""
    try:
        for _ in range(chance.randint(1, 10)):
            yield _word(chance)
            await _pause(chance)
    finally:
        await asyncio.sleep(chance.choice([0.0, 0.1, 1.0, 3.0]))


async def cannot_be_stopped(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Swallows every cancel in its cleanup, and says something all the while."""
    try:
        yield _word(chance)
        await _pause(chance, 2.0)
    finally:
        loop = asyncio.get_running_loop()
        end = loop.time() + chance.choice([0.5, 4.0])
        while loop.time() < end:
            try:
                await asyncio.sleep(0.25)
                if turn.reason is not None:
                    await turn.emit(STALE)
            except (asyncio.CancelledError, TurnClosed):
                continue


async def speaks_in_finally(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Says goodbye, which nobody hears unless it was not cut."""
    try:
        yield _word(chance)
        await _pause(chance, 1.0)
    finally:
        yield STALE if turn.reason is not None else "goodbye"


async def nests(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Does not close its inner generator."""

    async def inner() -> AsyncIterator[str]:
        try:
            for _ in range(10):
                yield _word(chance)
                await _pause(chance)
        finally:
            await asyncio.sleep(0)

    async for piece in inner():
        yield piece


async def times_itself(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Holds a time-out across its yields."""
    try:
        async with asyncio.timeout(chance.random() * 2):
            for _ in range(20):
                yield _word(chance)
                await _pause(chance)
    except TimeoutError:
        yield "late"


async def leaves_children(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Returns while its children work."""

    async def child() -> None:
        try:
            await asyncio.sleep(2.0)
        finally:
            if turn.reason is not None:
                await turn.emit(STALE)

    turn.spawn(child())
    yield _word(chance)
    await _pause(chance)


async def outputs_nonsense(agents: Agents, turn: Turn, chance: random.Random) -> AsyncIterator[Output]:
    """Yields what cannot be sent."""
    yield "\ud800"
    await _pause(chance)
    nonsense: list[Any] = [42, turn.data("thing", object()), turn.progress(float("nan"))]
    yield chance.choice(nonsense)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        talks, gushes, floods, shows_everything, speaks, protects, emits, uses_tools, fails, hangs, swallows,
        cleans_slowly, cannot_be_stopped, speaks_in_finally, nests, times_itself, leaves_children,
        outputs_nonsense,
    )
}  # fmt: skip

ONLY_YIELD = (talks.__name__, gushes.__name__, floods.__name__)
"""What they say comes in the order in which they yield it, and nobody says anything beside them."""
