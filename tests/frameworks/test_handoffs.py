"""One agent hands over to another: in the Agents SDK, and between the subgraphs of a graph."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from httpx2 import AsyncClient
from langchain.agents import create_agent
from langchain.agents.middleware import AgentState
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState
from langgraph.types import Command

from bargein_server import Agent
from bargein_server.frameworks import agents_sdk_agent, langgraph_agent
from framework_agents import Desk, langchain_model
from live_server import Frame, RawClient, ask, serving
from model_server import Upstream
from strict_model import PAUSE, StrictModel, call, say

Maker = Callable[[str, Desk, AsyncClient], Agent]

TRANSFER = "transfer_to_billing"


def agents_sdk(url: str, desk: Desk, http: AsyncClient, *, made: bool = False) -> Agent:
    """`handoffs=[…]`, or a `handoff()` with a callback."""
    from openai import AsyncOpenAI

    import agents

    client = AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0)
    model = agents.OpenAIResponsesModel("m", client)
    billing: Any = agents.Agent(name="Billing", model=model, tools=[agents.function_tool(desk.look_up)])
    handoff = agents.handoff(billing, on_handoff=lambda context: None) if made else billing
    triage: Any = agents.Agent(name="Triage", model=model, handoffs=[handoff])
    desk.kept = billing  # type: ignore[attr-defined]
    return agents_sdk_agent(triage, run_config=agents.RunConfig(tracing_disabled=True))


def agents_sdk_handoff(url: str, desk: Desk, http: AsyncClient) -> Agent:
    """`handoff()` hides its agent."""
    return agents_sdk(url, desk, http, made=True)


def langgraph(url: str, desk: Desk, http: AsyncClient) -> Agent:
    """Two agents as subgraphs, and a tool whose command leads from one to the other."""
    model = langchain_model(url, http)

    @tool(TRANSFER)
    def transfer(
        state: Annotated[AgentState[Any], InjectedState], tool_call_id: Annotated[str, InjectedToolCallId]
    ) -> Any:
        """Ask billing."""
        message = ToolMessage("transferred", tool_call_id=tool_call_id, name=TRANSFER)
        update = {"messages": [*state["messages"], message]}
        return Command(goto="billing", graph=Command.PARENT, update=update)

    graph = StateGraph(MessagesState)
    graph.add_node("triage", create_agent(model, [transfer]), destinations=("billing",))
    graph.add_node("billing", create_agent(model, [tool(desk.look_up)]))
    graph.add_edge(START, "triage")
    return langgraph_agent(graph.compile())


MAKERS: list[Maker] = [agents_sdk, agents_sdk_handoff, langgraph]
each = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)


@asynccontextmanager
async def served(maker: Maker, model: StrictModel, desk: Desk) -> AsyncIterator[RawClient]:
    async with Upstream(model) as upstream, AsyncClient() as http:
        agent = maker(upstream.url, desk, http)
        async with serving(agent) as server, server.connect() as client:
            yield client


def of(frames: list[Frame], kind: str) -> list[Frame]:
    return [frame for frame in frames if frame["type"] == kind]


@each
async def test_the_second_agent_answers_with_its_own_tools(maker: Maker) -> None:
    """The transfer is a call with a result; the tools of both agents are recorded."""
    desk = Desk()
    model = StrictModel([call(TRANSFER)], [call("look_up", city="Oslo")], [say("Sunny.")], [say("Done.")])
    async with served(maker, model, desk) as client:
        await ask(client)
        assert (await client.until("turn.ended"))["status"] == "completed"
        assert [frame["name"] for frame in of(client.frames, "tool.call")] == [TRANSFER, "look_up"]
        results = of(client.frames, "tool.result")
        assert [frame["status"] for frame in results] == ["completed", "completed"]
        assert len({frame["call_id"] for frame in results}) == 2
        text = "".join(frame["text"] for frame in of(client.frames, "text.delta"))
        assert text == "Sunny."
        if maker is not langgraph:
            assert [frame["message"] for frame in of(client.frames, "status")] == ["Transferred to Billing"]
        await ask(client, "and then?", "i2")
        assert (await client.until("turn.ended"))["status"] == "completed"
    told = [said[:2] for said in model.heard[-1]]
    assert told[:2] == [("user", "hello"), ("call", TRANSFER)]
    assert [said for said in told if said[0] == "result"][1:] == [("result", "sunny in Oslo")]
    assert model.refusals == []


@each
async def test_a_cut_of_the_second_agent(maker: Maker) -> None:
    """Its model is closed, its tool is cancelled, and the next request tells of both agents."""
    desk = Desk()
    desk.blocked.add("Oslo")
    model = StrictModel([call(TRANSFER)], [call("look_up", city="Oslo")], [say("It"), PAUSE], [say("Done.")])
    async with served(maker, model, desk) as client:
        turn_id = await ask(client)
        while len(of(client.frames, "tool.running")) < (1 if maker is not langgraph else 2):
            await client.receive()
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn_id})
        assert (await client.until("turn.ended"))["status"] == "interrupted"
        model.steps[2] = [say("Fine.")]
        await ask(client, "and then?", "i2")
        assert (await client.until("turn.ended"))["status"] == "completed"
    results = [said[1] for said in model.heard[-1] if said[0] == "result"]
    assert results[1:] == ["cancelled"]
    assert desk.cancelled == ["look_up(Oslo)"]
    assert model.refusals == []
