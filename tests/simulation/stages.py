"""The agents that are cut at every point: those that come with the server, and those that do it wrong.

Models are played on a simulated TCP connection, word by word, by the same server that other tests use
on a real one; the client in between, the SDK and the connection pool are the real ones.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from types import ModuleType
from unittest.mock import patch

from msgspec import Struct

import hostile_agents as hostile
from bargein_server import Agent, Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.local import LocalAgent, LocalModel
from bargein_server.agents.tools import ToolError, tool
from bargein_server.examples import calculator, document, translation
from bargein_server.examples.demo import demo
from bargein_server.examples.model import place
from bargein_server.examples.trip import trip_planner
from model_server import Call, Upstream
from scripted_model import Model, Part, call, say

from .agents import KINDS, Agents
from .cuts import Stage
from .oracle import Oracle

WORD_S = 0.01
"""How long a played model takes for each piece of its answer, in virtual seconds."""


class Scene(Struct):
    """One agent and what it is asked.

    Args:
        name: For the test's name.
        stage: Gives the agent.
        text: The input.
        endless: It never ends by itself.
        never_suspends: A clean run has no point.
        protects: It has uninterruptible sections.
        stubborn: How many tasks of it do not end within the two times of a cleanup.
    """

    name: str
    stage: Stage
    text: str = "hello"
    endless: bool = False
    never_suspends: bool = False
    protects: bool = False
    stubborn: int = 0


# --- models ------------------------------------------------------------------------------------------


class SlowModel(Model):
    """A scripted model that sends its answer piece by piece."""

    def __call__(self, answer: Call) -> None:
        """Answer a request."""
        pieces: list[bytes] = []
        write, answer._write = answer._write, pieces.append  # type: ignore[method-assign, assignment]
        super().__call__(answer)
        loop = asyncio.get_running_loop()
        for number, piece in enumerate(pieces):
            loop.call_later(WORD_S * number, write, piece)


class _Played:
    """An agent with its model's server, which ends with it."""

    def __init__(self, agent: Agent, server: Upstream) -> None:
        self._agent = agent
        self._server = server

    async def __call__(self, turn: Turn) -> AsyncGenerator[Output, None]:
        """Answer as the agent does."""
        async with aclosing(self._agent(turn)) as outputs:  # type: ignore[type-var]
            async for output in outputs:
                yield output

    async def shutdown(self) -> None:
        """End the model's server."""
        await self._server.__aexit__()


def played(make: Callable[[str], Agent], *steps: Sequence[Part]) -> Stage:
    """Return a stage with a model: `make` gets its address."""

    async def stage(oracle: Oracle) -> Agent:
        server = Upstream(SlowModel(*steps))
        await server.__aenter__()
        return _Played(make(server.url), server)

    return stage


def as_it_is(agent: Agent) -> Stage:
    """Return a stage without a model."""

    async def stage(oracle: Oracle) -> Agent:
        return agent

    return stage


async def _of_the_simulation(oracle: Oracle) -> Agent:
    return Agents(oracle)


# --- agents that come with the server ------------------------------------------------------------------


@tool
async def look_up(city: str) -> str:
    """Look something up."""
    await asyncio.sleep(0.02)
    return f"{city} is by the sea"


@tool(on_interrupt="finish", timeout_s=5)
async def book(city: str) -> str:
    """Book something, whatever happens."""
    await asyncio.sleep(0.05)
    return f"booked {city}"


@tool
async def refuse(city: str) -> str:
    """Refuse."""
    await asyncio.sleep(0)
    raise ToolError("there is no such city")


def _openai(url: str) -> Agent:
    return OpenAIAgent(model="m", base_url=url, api_key="none")


def _looping(url: str) -> Agent:
    return OpenAIAgent(model="m", base_url=url, api_key="none", tools=[look_up, book, refuse])


def _forced(url: str) -> Agent:
    return OpenAIAgent(model="m", base_url=url, api_key="none", tools=[look_up], final_tool="answer")


def _calculator(url: str) -> Agent:
    with patch.dict(os.environ, {"OPENAI_MODEL": "m", "OPENAI_BASE_URL": url}):
        calculator._model.cache_clear()
        calculator._model()
    return calculator.calculator


def _example(module: ModuleType) -> Callable[[str], Agent]:
    """Return a function of the model's address that returns an example."""

    def make(url: str) -> Agent:
        place.arguments = {"model": "m", "base_url": url, "api_key": "none"}
        agent: Agent = module.agent
        return agent

    return make


class _LocalModel(LocalModel):
    """The model on this machine, without its process."""

    async def __aenter__(self) -> _LocalModel:
        """Start."""
        await asyncio.sleep(0.05)
        self._runs = True
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """End."""

    @property
    def pid(self) -> int | None:
        """The process."""
        return 1 if getattr(self, "_runs", False) else None


def _local(url: str) -> Agent:
    model = _LocalModel()
    model.base_url = url
    return LocalAgent(model=model)


WORDS = say("Once ", "upon ", "a ", "time.")
TWO_CALLS = [
    say("Let me see. "),
    call("look_up", call_id="c1", city="Oslo"),
    call("book", call_id="c2", city="Oslo"),
]

SHIPPED = [
    Scene("demo", as_it_is(demo), "what?"),
    Scene("demo, legal", as_it_is(demo), "legal", protects=True),
    Scene("demo, fail", as_it_is(demo), "fail", never_suspends=True),
    Scene("demo, team", as_it_is(demo), "team"),
    Scene("trip", as_it_is(trip_planner), "Plan a trip to Oslo"),
    Scene("openai", played(_openai, [WORDS])),
    Scene("openai, tools", played(_looping, TWO_CALLS, [call("refuse", call_id="c3", city="x")], [WORDS])),
    Scene(
        "openai, final tool",
        played(
            _forced,
            [call("look_up", call_id="c1", city="Oslo")],
            [call("answer", call_id="c2", answer="By the sea.")],
        ),
    ),
    Scene(
        "calculator",
        played(
            _calculator,
            [call("add", call_id="c1", a=1, b=2), call("multiply", call_id="c2", a=3, b=4)],
            [say("3 and 12.")],
        ),
    ),
    Scene(
        "translation",
        played(_example(translation), [say("Das Meer.")], [say("Es ist ", "alt.")]),
        "The sea. It is old.",
    ),
    Scene(
        "document",
        played(
            _example(document), [say("Tides\n", "Storms\n")], [say("They ", "rise.")], [say("They blow.")]
        ),
        "the sea",
    ),
    Scene("local", played(_local, [WORDS])),
]

# --- hostile ones ---------------------------------------------------------------------------------------

ENDLESS = (hostile.wait_for_swallows, hostile.yields_flat_out, hostile.holds_a_task_group)


async def suspends_in_every_way(turn: Turn) -> AsyncIterator[Output]:
    """A section, a time-out around yields, a child, a nested generator, in one."""

    async def inner() -> AsyncIterator[str]:
        try:
            for word in ("one ", "two "):
                await asyncio.sleep(0.01)
                yield word
        finally:
            await asyncio.sleep(0)

    async def child() -> None:
        await turn.emit("child ")
        await asyncio.sleep(0.02)
        await turn.emit("again ")

    task = turn.spawn(child())
    async with turn.uninterruptible():
        yield "terms "
        await asyncio.sleep(0.01)
        yield "and conditions "
    try:
        async with asyncio.timeout(0.5):
            async for word in inner():
                yield word
            await task
    finally:
        await asyncio.sleep(0.01)


def _hostile() -> list[Scene]:
    return [
        Scene(
            agent.__name__,
            as_it_is(agent),
            endless=agent in ENDLESS,
            never_suspends=True,
            stubborn=int(agent in hostile.STUBBORN),
        )
        for agent in hostile.AGENTS
    ]


def _simulated() -> list[Scene]:
    return [
        Scene(
            f"simulated {name}",
            _of_the_simulation,
            f"{name} {seed}",
            never_suspends=True,
            protects=name == "protects",
            stubborn=3 * (name in ("cannot_be_stopped", "cleans_slowly")),
        )
        for name in KINDS
        for seed in (1, 2)
    ]


STAGES = [
    *SHIPPED,
    Scene("suspends_in_every_way", as_it_is(suspends_in_every_way), protects=True),
    *_hostile(),
    *_simulated(),
]
