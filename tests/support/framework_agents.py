"""The same agent made with each framework, through the adapters of `bargein_server.frameworks`.

It has two tools: `look_up`, which a test may block, and `book`, which needs the user's consent. Models are
made once, with clients of their own, as people make them at module level.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from httpx2 import AsyncClient

from bargein_server import Agent
from bargein_server.frameworks import agents_sdk_agent, langgraph_agent, pydantic_ai_agent


class Desk:
    """The tools and their control.

    Attributes:
        begun: Calls that began, as `tool(argument)`.
        ended: Calls that returned.
        cancelled: Calls that were cancelled.
        blocked: Arguments whose calls wait for `release`.
        late: The same for calls in threads.
    """

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.cancelled: list[str] = []
        self.blocked: set[str] = set()
        self.late = threading.Event()
        self._released = asyncio.Event()

    def release(self) -> None:
        """Let blocked calls return."""
        self.blocked.clear()
        self._released.set()

    async def look_up(self, city: str) -> str:
        """Look up the weather of a city."""
        self.begun.append(f"look_up({city})")
        if city in self.blocked:
            try:
                await self._released.wait()
            except asyncio.CancelledError:
                self.cancelled.append(f"look_up({city})")
                raise
        self.ended.append(f"look_up({city})")
        return f"sunny in {city}"

    def look_up_slowly(self, city: str) -> str:
        """Look up the weather of a city, in a thread."""
        self.begun.append(f"look_up_slowly({city})")
        self.late.wait(10)
        self.ended.append(f"look_up_slowly({city})")
        return f"rain in {city}"

    async def book(self, flight: str) -> str:
        """Book a flight."""
        self.begun.append(f"book({flight})")
        return f"booked {flight}"


def langchain_model(url: str, http: AsyncClient, **options: Any) -> Any:
    """Return a model with a client that knows nothing of turns."""
    from langchain_openai import ChatOpenAI

    options = {"api_key": "none", "max_retries": 0, "stream_usage": True, **options}
    return ChatOpenAI(model="m", base_url=url, http_async_client=http, **options)


def langchain(url: str, desk: Desk, http: AsyncClient, **options: Any) -> Agent:
    """`create_agent` with consent by its middleware, which needs a checkpointer."""
    from langchain.agents import create_agent
    from langchain.agents.middleware import HumanInTheLoopMiddleware
    from langchain_core.tools import tool
    from langgraph.checkpoint.memory import InMemorySaver

    tools = [tool(desk.look_up), tool(desk.look_up_slowly), tool(desk.book)]
    consent: Any = HumanInTheLoopMiddleware({"book": True})
    model = langchain_model(url, http, **options)
    return langgraph_agent(
        create_agent(model, tools, system_prompt="Help.", middleware=[consent], checkpointer=InMemorySaver())
    )


def langchain_responses(url: str, desk: Desk, http: AsyncClient) -> Agent:
    """The same with the Responses API."""
    return langchain(url, desk, http, use_responses_api=True)


def langgraph(url: str, desk: Desk, http: AsyncClient) -> Agent:
    """A graph made by hand, which asks with `interrupt()` in its tool."""
    from langchain_core.tools import tool
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import START, MessagesState, StateGraph
    from langgraph.prebuilt import ToolNode, tools_condition
    from langgraph.types import interrupt

    @tool
    async def book(flight: str) -> str:
        """Book a flight."""
        if not interrupt({"book": flight}):
            return "not booked"
        return await desk.book(flight)

    tools = [tool(desk.look_up), tool(desk.look_up_slowly), book]
    model = langchain_model(url, http).bind_tools(tools)

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    return langgraph_agent(graph.compile(checkpointer=InMemorySaver()))


def agents_sdk(url: str, desk: Desk, http: AsyncClient, *, responses: bool = True) -> Agent:
    """An agent of the OpenAI Agents SDK, with the Responses API."""
    from openai import AsyncOpenAI

    import agents

    client = AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0)
    kind = agents.OpenAIResponsesModel if responses else agents.OpenAIChatCompletionsModel
    book = agents.function_tool(desk.book, needs_approval=True)
    tools: list[Any] = [agents.function_tool(desk.look_up), agents.function_tool(desk.look_up_slowly), book]
    agent: Any = agents.Agent(name="Assistant", instructions="Help.", model=kind("m", client), tools=tools)
    return agents_sdk_agent(agent, run_config=agents.RunConfig(tracing_disabled=True))


def agents_sdk_chat(url: str, desk: Desk, http: AsyncClient) -> Agent:
    """The same with chat completions."""
    return agents_sdk(url, desk, http, responses=False)


def pydantic_ai(url: str, desk: Desk, http: AsyncClient, *, responses: bool = False) -> Agent:
    """An agent of Pydantic AI, with chat completions."""
    from openai import AsyncOpenAI
    from pydantic_ai import Agent, Tool
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0)
    kind = OpenAIResponsesModel if responses else OpenAIChatModel
    agent: Any = Agent(
        kind("m", provider=OpenAIProvider(openai_client=client)),
        system_prompt="Help.",
        tools=[Tool(desk.look_up), Tool(desk.look_up_slowly), Tool(desk.book, requires_approval=True)],
    )
    return pydantic_ai_agent(agent)


def pydantic_ai_responses(url: str, desk: Desk, http: AsyncClient) -> Agent:
    """The same with the Responses API."""
    return pydantic_ai(url, desk, http, responses=True)


Maker = Callable[[str, Desk, AsyncClient], Agent]

FRAMEWORKS: dict[str, tuple[Maker, ...]] = {
    "LangChain, LangGraph": (langchain, langchain_responses, langgraph),
    "OpenAI Agents SDK": (agents_sdk, agents_sdk_chat),
    "Pydantic AI": (pydantic_ai, pydantic_ai_responses),
}
MAKERS = [maker for makers in FRAMEWORKS.values() for maker in makers]
