"""Tools of MCP servers through each framework's own hooks, with a real server on stdio.

LangChain's and Pydantic AI's need `fastmcp`, which `other_frameworks/test_environments.py` installs.
"""

from __future__ import annotations

import gc
import sys
from asyncio.base_subprocess import BaseSubprocessTransport
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient

from bargein_server import Agent, Turn
from bargein_server.frameworks import agents_sdk_agent, langgraph_agent, pydantic_ai_agent
from framework_agents import langchain_model
from live_server import Frame, RawClient, ask, serving
from model_server import Upstream
from strict_model import Said, StrictModel, call, say
from waiting import until

PROGRAM = str(Path(__file__).parents[1] / "support" / "mcp_program.py")

pytestmark = pytest.mark.filterwarnings("ignore:.langchain.mcp. is in beta")


def openai_client(url: str, http: AsyncClient) -> Any:
    from openai import AsyncOpenAI

    return AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0)


def agents_sdk(url: str, http: AsyncClient, log: Path) -> Agent:
    """`mcp_servers`, which the adapter connects."""
    from agents.mcp import MCPServerStdio

    import agents

    program = MCPServerStdio({"command": sys.executable, "args": [PROGRAM, str(log)]}, name="tests")
    model = agents.OpenAIResponsesModel("m", openai_client(url, http))
    agent: Any = agents.Agent(name="Assistant", model=model, mcp_servers=[program])
    return agents_sdk_agent(agent, run_config=agents.RunConfig(tracing_disabled=True))


def pydantic_ai(url: str, http: AsyncClient, log: Path) -> Agent:
    """A toolset, which is entered with the agent."""
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    transport = import_module("fastmcp.client.transports").StdioTransport(
        sys.executable, [PROGRAM, str(log)], keep_alive=False
    )
    toolset = import_module("pydantic_ai.mcp").MCPToolset(transport)
    model = OpenAIChatModel("m", provider=OpenAIProvider(openai_client=openai_client(url, http)))
    agent: Any = Agent(model, toolsets=[toolset])
    return pydantic_ai_agent(agent)


def langchain(url: str, http: AsyncClient, log: Path) -> Agent:
    """An adapter that is open for as long as the server runs."""
    from langchain.agents import create_agent

    adapter_class = import_module("langchain.mcp").MCPAdapter
    transport_class = import_module("fastmcp.client.transports").StdioTransport

    @asynccontextmanager
    async def graph() -> AsyncIterator[Any]:
        transport = transport_class(sys.executable, [PROGRAM, str(log)], keep_alive=False)
        async with adapter_class(transport) as adapter:
            yield create_agent(langchain_model(url, http), await adapter.list_tools())

    return langgraph_agent(graph)


@pytest.fixture(autouse=True)
async def processes_closed() -> AsyncIterator[None]:
    """Wait for the pipes of ended processes, which asyncio closes in later steps of the loop."""
    yield
    await until(lambda: not open_transports(), "the end of all pipes")


def open_transports() -> list[object]:
    # By type: a weak proxy of something that is gone raises when it is asked for its class.
    found = [item for item in gc.get_objects() if issubclass(type(item), BaseSubprocessTransport)]
    return [item for item in found if not item._closed]


Maker = Callable[[str, AsyncClient, Path], Agent]
MAKERS: list[Maker] = [agents_sdk, *([pydantic_ai, langchain] if find_spec("fastmcp") else [])]
each = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)


class Program:
    """The MCP server's log."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.log.touch()

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    @property
    def pids(self) -> list[int]:
        return [int(line.split()[1]) for line in self.lines if line.startswith("pid")]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path / "log")


@asynccontextmanager
async def served(maker: Maker, model: StrictModel, program: Program) -> AsyncIterator[RawClient]:
    async with Upstream(model) as upstream, AsyncClient() as http:
        agent = maker(upstream.url, http, program.log)
        async with serving(agent) as server, server.connect() as client:
            yield client


async def turn(client: RawClient, text: str = "go") -> list[Frame]:
    start = len(client.frames)
    await ask(client, text, f"i{start}")
    await client.until("turn.ended")
    return client.frames[start:]


def results(model: StrictModel) -> list[str]:
    """Return the results in the last request."""
    return [said[1] for said in model.heard[-1] if said[0] == "result"]


@each
async def test_a_cut_call_is_cancelled_at_the_server(maker: Maker, program: Program) -> None:
    """The ledger says so, and the same process answers the next call."""
    steps = [call("wait")], [call("add", a=1, b=2)], [say("It is 3.")], [say("Done.")]
    model = StrictModel(*steps)
    async with served(maker, model, program) as client:
        turn_id = await ask(client)
        await client.until("tool.running")
        await until(lambda: "began wait" in program.lines, "the call")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
        assert (await client.until("turn.ended"))["status"] == "interrupted"
        await until(lambda: "cancelled wait" in program.lines, "the cancel")
        frames = await turn(client, "again")
        assert frames[-1]["status"] == "completed"
        await turn(client, "and then?")
    assert len(program.pids) == 1
    told: list[Said] = [("user", "hello"), ("call", "wait", "{}"), ("result", "cancelled")]
    assert model.heard[1] == [*told, ("assistant", "[interrupted]"), ("user", "again")]
    assert "3" in results(model)[-1]
    assert model.refusals == []
    await until(lambda: "ended" in program.lines, "the end of the process")


@each
async def test_a_call_that_fails_is_a_failed_result(maker: Maker, program: Program) -> None:
    """The model gets the server's words, and the turn goes on."""
    model = StrictModel([call("fail")], [say("Sorry.")], [say("Done.")])
    async with served(maker, model, program) as client:
        frames = await turn(client)
        assert frames[-1]["status"] == "completed"
        [told] = results(model)
        assert "fail" in told
        await turn(client, "and then?")
    assert len([frame for frame in frames if frame["type"] == "tool.result"]) == 1
    assert model.refusals == []


@each
async def test_a_server_that_dies_fails_one_call(maker: Maker, program: Program) -> None:
    """Its call has one result; the turn ends, and the session lives."""
    model = StrictModel([call("die")], [say("Sorry.")], [say("Done.")], [say("Done.")])
    async with served(maker, model, program) as client:
        frames = await turn(client)
        assert len([frame for frame in frames if frame["type"] == "tool.result"]) <= 1
        await turn(client, "and then?")
    assert model.refusals == []


@each
async def test_a_turn_before_the_start_connects(maker: Maker, program: Program) -> None:
    """An agent that another one calls is not started; a cut of its first turn closes nothing."""
    model = StrictModel([call("wait")], [call("pid")], [say("Done.")], [call("pid")], [say("Done.")])
    inner: list[Any] = []

    def outer(url: str, http: AsyncClient, log: Path) -> Agent:
        inner.append(maker(url, http, log))

        async def agent(turn: Turn) -> AsyncIterator[Any]:
            async for output in inner[0](turn):
                yield output

        return agent

    async with served(outer, model, program) as client:
        turn_id = await ask(client)
        await until(lambda: "began wait" in program.lines, "the call")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
        await client.until("turn.ended")
        for text in ("again", "and then?"):
            assert (await turn(client, text))[-1]["status"] == "completed"
        await inner[0].shutdown()
    if maker is not pydantic_ai:  # it connects for each run that finds it closed
        assert len(program.pids) == 1
    assert model.refusals == []


async def test_a_graph_that_was_not_compiled_is_named() -> None:
    """With the remedy."""
    from langgraph.graph import MessagesState, StateGraph

    graph: Any = StateGraph(MessagesState)
    with pytest.raises(TypeError, match=r"got StateGraph: call its compile\(\)"):
        langgraph_agent(graph)
