"""Pydantic AI beyond the usual agent: calls that run elsewhere, and output that is no text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx2 import AsyncClient
from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from bargein_server.frameworks import pydantic_ai_agent
from live_server import Frame, RawClient, ask, serving
from model_server import Upstream
from strict_model import StrictModel, call, say

Make = Callable[[OpenAIChatModel], Any]

LOCATE = ToolDefinition(name="locate", parameters_json_schema={"type": "object", "properties": {}})


class Report(BaseModel):
    """A structured answer."""

    title: str
    score: int


@asynccontextmanager
async def served(make: Make, model: StrictModel, **settings: Any) -> AsyncIterator[RawClient]:
    """Serve the agent that `make` returns for a chat model."""
    async with Upstream(model) as upstream, AsyncClient() as http:
        client = AsyncOpenAI(base_url=upstream.url, api_key="none", http_client=http, max_retries=0)
        agent = make(OpenAIChatModel("m", provider=OpenAIProvider(openai_client=client)))
        async with serving(agent, **settings) as server, server.connect() as talker:
            yield talker


async def turn(client: RawClient, text: str = "go") -> list[Frame]:
    start = len(client.frames)
    await ask(client, text, f"i{start}")
    await client.until("turn.ended")
    return client.frames[start:]


def of(frames: list[Frame], kind: str) -> list[Frame]:
    return [frame for frame in frames if frame["type"] == kind]


def text_of(frames: list[Frame]) -> str:
    return "".join(frame["text"] for frame in of(frames, "text.delta"))


def deferring(model: Any) -> Any:
    """Return an agent with an external tool, a tool that defers itself, and one that asks by itself."""
    agent: Agent[Any, str] = Agent(model, toolsets=[ExternalToolset([LOCATE])])

    @agent.tool_plain
    def look_up(city: str) -> str:
        """Look up a city."""
        raise CallDeferred

    @agent.tool
    def pay(ctx: RunContext[Any], amount: int) -> str:
        """Pay."""
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        return f"paid {amount}"

    return pydantic_ai_agent(agent)


async def asked_of_the_client(client: RawClient, count: int) -> dict[str, str]:
    """Wait for a number of calls that wait for the client; return their ids by name."""
    waiting: list[str] = []
    while len(waiting) < count:
        frame = await client.receive()
        if frame["type"] == "tool.confirm" or frame.get("runs_in") == "client":
            waiting.append(frame["call_id"])
    ids = {frame["name"]: frame["call_id"] for frame in of(client.frames, "tool.call")}
    assert sorted(waiting) == sorted(ids.values())
    return ids


async def test_calls_that_run_elsewhere_run_in_the_client() -> None:
    """Beside one that asks for consent; all results go back to the model, and stay in the history."""
    calls = [call("locate"), call("look_up", city="Oslo"), call("pay", amount=3)]
    model = StrictModel(calls, [say("Well.")], [say("Bye.")])
    async with served(deferring, model) as client:
        await ask(client, "go")
        ids = await asked_of_the_client(client, 3)
        await client.send({"type": "tool.output", "call_id": ids["look_up"], "output": "sunny"})
        await client.send({"type": "tool.decision", "call_id": ids["pay"], "allow": True})
        await client.send({"type": "tool.output", "call_id": ids["locate"], "output": {"lat": 1}})
        assert (await client.until("turn.ended"))["status"] == "completed"
        await turn(client, "thanks")
    results = {frame["call_id"]: frame["output"] for frame in of(client.frames, "tool.result")}
    assert results == {ids["locate"]: {"lat": 1}, ids["look_up"]: "sunny", ids["pay"]: "paid 3"}
    for said in model.heard[1:]:
        told = [words[1] for words in said if words[0] == "result"]
        assert sorted(told) == sorted(['{"lat":1}', "sunny", "paid 3"])


@pytest.mark.parametrize("answers", [True, False])
async def test_a_client_that_cannot_is_a_failed_call(answers: bool) -> None:
    """Its error, or its silence, is the result; the turn goes on."""
    model = StrictModel([call("locate")], [say("Well.")])
    async with served(deferring, model, confirm_s=60 if answers else 0.2) as client:
        await ask(client, "go")
        ids = await asked_of_the_client(client, 1)
        if answers:
            await client.send({"type": "tool.output", "call_id": ids["locate"], "error": "no permission"})
        assert (await client.until("turn.ended"))["status"] == "completed"
    [result] = of(client.frames, "tool.result")
    error = "no permission" if answers else "the client did not answer in time"
    assert (result["status"], result["error"]) == ("failed", error)
    [told] = [words[1] for words in model.heard[-1] if words[0] == "result"]
    assert json.loads(told) == {"error": error}


async def test_an_interrupt_ends_the_wait_for_the_client() -> None:
    """The call has one result, and later requests are accepted."""
    model = StrictModel([call("locate")], [say("Yes.")], [say("Bye.")])
    async with served(deferring, model) as client:
        await ask(client, "go")
        await asked_of_the_client(client, 1)
        await client.send({"type": "interrupt", "id": "x1"})
        assert (await client.until("turn.ended"))["status"] == "interrupted"
        for text in ("again", "and again"):
            assert (await turn(client, text))[-1]["status"] == "completed"
    told = [words for words in model.heard[-1] if words[0] == "result"]
    assert (told, model.refusals) == ([("result", "cancelled")], [])


async def test_structured_output_is_the_answer() -> None:
    """As JSON, once, and heard; the next request has it."""
    model = StrictModel(
        [call("final_result", title="Tides", score=3)], [call("final_result", title="", score=0)]
    )
    async with served(lambda m: pydantic_ai_agent(Agent(m, output_type=Report)), model) as client:
        answer = text_of(await turn(client))
        assert json.loads(answer) == {"title": "Tides", "score": 3}
        assert json.loads(text_of(await turn(client, "again"))) == {"title": "", "score": 0}
    assert ("assistant", answer) in model.heard[-1]


async def test_the_output_of_a_function_is_the_answer() -> None:
    """A string as it is, without quotes."""

    def compose(title: str) -> str:
        """Compose."""
        return f"*{title}*"

    model = StrictModel([call("final_result", title="Tides")])
    async with served(lambda m: pydantic_ai_agent(Agent(m, output_type=compose)), model) as client:
        assert text_of(await turn(client)) == "*Tides*"


async def test_a_field_that_was_streamed_is_not_sent_again() -> None:
    """The text of a final tool's field is the answer."""
    model = StrictModel([call("final_result", title="Tides", score=3)])
    final = ("final_result", "title")
    async with served(
        lambda m: pydantic_ai_agent(Agent(m, output_type=Report), final_tool=final), model
    ) as client:
        assert text_of(await turn(client)) == "Tides"
