"""Agents of other frameworks, and histories in their forms.

    agent = langgraph_agent(create_agent(model, tools))     # LangChain, LangGraph
    agent = agents_sdk_agent(Agent(name="…", tools=tools))  # OpenAI Agents SDK
    agent = pydantic_ai_agent(Agent(model, tools=tools))    # Pydantic AI

Each framework is imported on first use of its adapter.
"""

from __future__ import annotations

from .agents_sdk import agents_sdk_agent as agents_sdk_agent
from .graphs import langgraph_agent as langgraph_agent
from .langchain_reader import LangChainReader as LangChainReader
from .langchain_reader import langchain_reader as langchain_reader
from .langchain_tools import recorded_tool as recorded_tool
from .messages import NotInstalled as NotInstalled
from .messages import langchain_messages as langchain_messages
from .messages import pydantic_messages as pydantic_messages
from .messages import response_items as response_items
from .pydantic_agent import pydantic_ai_agent as pydantic_ai_agent

__all__ = [
    "LangChainReader",
    "NotInstalled",
    "agents_sdk_agent",
    "langchain_messages",
    "langchain_reader",
    "langgraph_agent",
    "pydantic_ai_agent",
    "pydantic_messages",
    "recorded_tool",
    "response_items",
]
