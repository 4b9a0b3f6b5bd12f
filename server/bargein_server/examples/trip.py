"""Trip planner, served as `bargein_server.examples.trip:trip_planner`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from json import dumps
from typing import Any

from bargein_protocol import CallId, ToolCall
from bargein_server.agent import NamedCall, Output, Turn

from ..agents.tool_loop import ToolRunner
from ..agents.tools import tool, toolset

SECONDS = 0.5


@tool
async def find_flights(turn: Turn, city: str) -> AsyncGenerator[Any, None]:
    """Search flights."""
    for airline in range(1, 4):
        await asyncio.sleep(SECONDS)
        yield turn.progress(airline, 3, "airlines", "flights")
    yield {"flight": f"BI 204 to {city}", "price": 120}


@tool
async def find_hotels(turn: Turn, city: str) -> AsyncGenerator[Any, None]:
    """Search hotels."""
    yield turn.status(f"Asking hotels in {city}", "bed")
    await asyncio.sleep(2 * SECONDS)
    yield {"hotel": "Harbour View", "price": 90}


@tool(on_interrupt="finish", timeout_s=20)
async def book_restaurant(city: str) -> dict[str, str]:
    """Book a table."""
    await asyncio.sleep(SECONDS)
    return {"restaurant": f"The Quiet Table, {city}", "at": "19:30"}


async def trip_planner(turn: Turn) -> AsyncGenerator[Output, None]:
    """Plan a trip to the city that is the last word of the input."""
    city = turn.text.rstrip(" .!?").split(" ")[-1][:50] or "Lisbon"
    yield turn.thought(f"A trip to {city}: flights, a hotel and a table can be found at the same time. ")
    tools = toolset([find_flights, find_hotels, book_restaurant])
    named = [NamedCall(turn.tools.claim(), name, dumps({"city": city})) for name in tools]
    for call in named:
        yield ToolCall(call_id=CallId(call.call_id), name=call.name)
    runner = ToolRunner(turn, tools, named)
    async with aclosing(runner.outputs()) as outputs:
        async for output in outputs:
            yield output
    flight, hotel, table = (result.output for result in runner.results)
    yield f"Fly {flight['flight']}, stay at {hotel['hotel']}, eat at {table['restaurant']}."
