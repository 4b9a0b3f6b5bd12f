"""Tools that do what no tool should, in each framework: one result for each call, and the session lives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx2 import AsyncClient

from bargein_server import Agent
from bargein_server.frameworks import agents_sdk_agent, langgraph_agent, pydantic_ai_agent
from bargein_server.serving.server import exits_contained
from framework_agents import langchain_model
from live_server import Frame, RawClient, ask, serving
from model_server import Upstream
from strict_model import StrictModel, call, say

Maker = Callable[[str, AsyncClient, Any], Agent]


def langchain(url: str, http: AsyncClient, act: Any) -> Agent:
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    return langgraph_agent(create_agent(langchain_model(url, http), [tool(act)]))


def _client(url: str, http: AsyncClient) -> Any:
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0)


def agents_sdk(url: str, http: AsyncClient, act: Any) -> Agent:
    import agents

    model = agents.OpenAIResponsesModel("m", _client(url, http))
    agent: Any = agents.Agent(name="Assistant", model=model, tools=[agents.function_tool(act)])
    return agents_sdk_agent(agent, run_config=agents.RunConfig(tracing_disabled=True))


def pydantic_ai(url: str, http: AsyncClient, act: Any) -> Agent:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    model = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=_client(url, http)))
    agent: Any = Agent(model, tools=[act])
    return pydantic_ai_agent(agent)


each = pytest.mark.parametrize(
    "maker", [langchain, agents_sdk, pydantic_ai], ids=lambda maker: maker.__name__
)


@asynccontextmanager
async def served(maker: Maker, model: StrictModel, act: Any) -> AsyncIterator[RawClient]:
    async with Upstream(model) as upstream, AsyncClient() as http:
        agent = maker(upstream.url, http, act)
        with exits_contained():  # as in a server's process
            async with serving(agent) as server, server.connect() as client:
                yield client


async def turn(client: RawClient, text: str = "go") -> list[Frame]:
    start = len(client.frames)
    await ask(client, text, f"i{start}")
    await client.until("turn.ended")
    return client.frames[start:]


def of(frames: list[Frame], kind: str) -> list[Frame]:
    return [frame for frame in frames if frame["type"] == kind]


ERRORS: list[BaseException] = [
    StopIteration("one"),
    StopAsyncIteration("one"),
    GeneratorExit(),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    ExceptionGroup("several", [ValueError("one"), OSError("two")]),
    BaseExceptionGroup("several", [KeyboardInterrupt(), ValueError("two")]),
    RecursionError(),
    MemoryError(),
]


def _name(error: BaseException) -> str:
    return type(error).__name__


@each
@pytest.mark.parametrize(
    "plain", [False, pytest.param(True, marks=pytest.mark.nightly)], ids=["task", "thread"]
)
@pytest.mark.parametrize("error", ERRORS, ids=_name)
async def test_any_error_fails_one_turn_at_most(maker: Maker, error: BaseException, plain: bool) -> None:
    """The turn ends, the call has one result, and the next request is accepted."""

    async def act(city: str) -> str:
        """Act."""
        raise error

    def act_in_thread(city: str) -> str:
        """Act."""
        raise error

    act_in_thread.__name__ = "act"
    model = StrictModel([call("act", city="Oslo")], [say("Sorry.")], [say("Done.")], [say("Done.")])
    async with served(maker, model, act_in_thread if plain else act) as client:
        frames = await turn(client)
        assert len(of(frames, "tool.result")) <= 1
        assert (await turn(client, "and then?"))[-1]["status"] == "completed"
    [told] = [said for said in model.heard[-1] if said[0] == "result"]
    assert "cancelled" not in told[1] or isinstance(error, GeneratorExit)
    assert model.refusals == []


class Odd:
    """An object that JSON does not have."""

    def __repr__(self) -> str:
        return "odd"


def circular() -> Any:
    made: dict[str, Any] = {}
    made["self"] = made
    return made


def deep() -> Any:
    made: Any = 1
    for _ in range(3000):
        made = [made]
    return made


RESULTS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "bytes": lambda: b"\x89\xff",
    "set": lambda: {1},
    "generator": lambda: (n for n in range(3)),
    "nan": lambda: float("nan"),
    "huge": lambda: "x" * 3_000_000,
    "huge number": lambda: 10**5000,
    "circular": circular,
    "deep": deep,
    "odd": Odd,
    "half": lambda: "a\ud83d",
    "keys": lambda: {1: "a", (2, 3): "b", None: "c"},
    "class": lambda: Odd,
    "exception": lambda: ValueError("returned"),
}


@each
@pytest.mark.parametrize("kind", RESULTS)
async def test_any_result_is_a_result(maker: Maker, kind: str) -> None:
    """The tool ran: its call has a result, and the next request is accepted."""

    async def act(city: str) -> Any:
        """Act."""
        return RESULTS[kind]()

    model = StrictModel([call("act", city="Oslo")], [say("Fine.")], [say("Done.")], [say("Done.")])
    async with served(maker, model, act) as client:
        frames = await turn(client)
        assert len(of(frames, "tool.result")) <= 1
        assert (await turn(client, "and then?"))[-1]["status"] == "completed"
    [told] = [said for said in model.heard[-1] if said[0] == "result"]
    assert "cancelled" not in told[1]
    assert model.refusals == []


@pytest.mark.parametrize("arguments", [{"city": "Oslo"}, {}], ids=["arguments", "none"])
@pytest.mark.parametrize("maker", [langchain, pydantic_ai], ids=lambda maker: maker.__name__)
async def test_a_name_in_pieces_is_one_call(maker: Maker, arguments: dict[str, Any]) -> None:
    """It is announced when it is whole; two calls stay two. The Agents SDK itself takes the last piece."""

    async def look_up_weather(city: str = "Bergen") -> str:
        """Look up."""
        return f"rain in {city}"

    calls = [call("look_ up_ weather", **arguments), call("look_up_ weather", **arguments)]
    model = StrictModel(calls, [say("Rain.")])
    async with served(maker, model, look_up_weather) as client:
        frames = await turn(client)
    announced = of(frames, "tool.call")
    assert [frame["name"] for frame in announced] == ["look_up_weather"] * 2
    called = {frame["call_id"] for frame in announced}
    assert {frame["call_id"] for frame in of(frames, "tool.result")} == called
    assert len(of(frames, "tool.running")) == len(of(frames, "tool.result")) == len(called) == 2
    assert [said for said in model.heard[-1] if said[0] == "result"] != []
