"""Calculator: a model that calculates with tools.

    bargein-server bargein_server.examples.calculator:calculator

It needs a model that calls tools: `OPENAI_MODEL`, and `OPENAI_API_KEY` or `OPENAI_BASE_URL`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache

from bargein_server.agent import Output, Turn

from ..agents.chat_completions import OpenAIAgent
from ..agents.tools import ToolError, tool


@tool(quick=True)
def add(a: float, b: float) -> float:
    """Return a + b."""
    return a + b


@tool(quick=True)
def subtract(a: float, b: float) -> float:
    """Return a - b."""
    return a - b


@tool(quick=True)
def multiply(a: float, b: float) -> float:
    """Return a * b."""
    return a * b


@tool(quick=True)
def exponentiate(base: float, exponent: float) -> float:
    """Return the base to the power of the exponent."""
    try:
        return float(base**exponent)
    except (OverflowError, ZeroDivisionError, TypeError) as error:
        raise ToolError("the result is no number, or too large") from error


@cache
def _model() -> OpenAIAgent:
    instructions = "Calculate with your tools only, one operation at a time. Then say the result."
    return OpenAIAgent(instructions=instructions, tools=[add, subtract, multiply, exponentiate])


async def calculator(turn: Turn) -> AsyncGenerator[Output, None]:
    """Answer with the results of the tools."""
    async with aclosing(_model()(turn)) as outputs:
        async for output in outputs:
            yield output
