"""Spans of what an agent does below its turn: model calls, tools, agents side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from opentelemetry.trace import SpanKind, StatusCode

from bargein_protocol import ToolOutput, ToolRunning
from bargein_server import Agent, Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.parallel import Parallel
from bargein_server.agents.tools import ToolError, tool
from model_server import Upstream
from scripted_model import Model, call, say
from tracing import Tracing, endless, traced, turn_of
from waiting import until

# Model calls


async def test_a_model_call_is_a_client_span(tracing: Tracing) -> None:
    """By the conventions for generative AI, and without what was said."""
    async with Upstream(Model([say("secret ", "words")])) as upstream:
        agent = OpenAIAgent(
            model="m", base_url=upstream.url, instructions="secret rules", temperature=0.5, user="secret user"
        )
        line = traced(tracing, agent)
        await turn_of(line, tracing, "secret question")
        await line.connection._registry.shut_down()
    assert tracing.tree() == {"turn", "turn/chat m"}
    span = tracing.one("chat")
    assert span.kind is SpanKind.CLIENT
    attributes = dict(span.attributes or {})
    assert 0 < float(str(attributes.pop("gen_ai.response.time_to_first_chunk"))) < 5
    assert (
        attributes.pop("gen_ai.conversation.id")
        == (tracing.one("turn").attributes or {})["gen_ai.conversation.id"]
    )
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "c",
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 2,
        "server.address": "127.0.0.1",
        "server.port": int(upstream.url.rsplit(":", 1)[1].partition("/")[0]),
    }
    assert "secret" not in "".join(span.to_json() for span in tracing.spans())


async def test_each_attempt_is_a_span(tracing: Tracing) -> None:
    """One that failed says with which error."""

    def script(answer: Any) -> None:
        if len(tracing.spans("chat")) == 0:
            answer.reply(500, {"error": "secret"}, retry_after="0")
        else:
            answer.answer("word")

    async with Upstream(script) as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url))
        await turn_of(line, tracing)
        await line.connection._registry.shut_down()
    first, second = tracing.spans("chat")
    assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, "InternalServerError")
    assert second.status.status_code is StatusCode.UNSET
    assert tracing.tree() == {"turn", "turn/chat m"}


async def test_an_interrupted_model_call_has_no_finish_reason(tracing: Tracing) -> None:
    """Its span ends with the interrupt, below the turn's."""
    async with Upstream() as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url))
        turn = line.ask()
        call = await upstream.call()
        call.open()
        call.text("word")
        await line.until("text.delta")
        line.interrupt(turn)
        await until(lambda: tracing.spans("turn"))
        await line.connection._registry.shut_down()
    assert tracing.tree() == {"turn", "turn/chat m"}
    assert "gen_ai.response.finish_reasons" not in (tracing.one("chat").attributes or {})
    assert tracing.one("chat").status.status_code is StatusCode.UNSET


# Tools


async def test_tools_are_spans_in_which_their_own_work_nests(tracing: Tracing) -> None:
    """Async ones and threads; a failure says what kind, never its text or the arguments."""
    tracer = tracing.provider.get_tracer("author")

    async def look_up(city: str) -> str:
        with tracer.start_as_current_span("query"):
            await asyncio.sleep(0)
        return "secret result"

    def compute() -> int:
        with tracer.start_as_current_span("sums"):
            return 1

    async def refuse() -> None:
        raise ToolError("secret reason")

    @tool(timeout_s=0.01)
    async def hang() -> None:
        await asyncio.Event().wait()

    calls = [call("look_up", city="secret"), call("compute"), call("refuse"), call("hang"), call("unknown")]
    async with Upstream(Model(calls, [say("done")])) as upstream:
        agent = OpenAIAgent(model="m", base_url=upstream.url, tools=[look_up, compute, refuse, hang])
        line = traced(tracing, agent)
        await turn_of(line, tracing)
        await line.connection._registry.shut_down()
    assert tracing.tree() == {
        "turn",
        "turn/chat m",
        "turn/execute_tool look_up",
        "turn/execute_tool look_up/query",
        "turn/execute_tool compute",
        "turn/execute_tool compute/sums",
        "turn/execute_tool refuse",
        "turn/execute_tool hang",
    }
    assert len(tracing.spans("chat")) == 2
    errors = {
        span.name: span.status.description for span in tracing.spans("execute") if not span.status.is_ok
    }
    assert errors == {"execute_tool refuse": "ToolError", "execute_tool hang": "timeout"}
    attributes = dict(tracing.one("execute_tool look_up").attributes or {})
    assert str(attributes.pop("gen_ai.tool.call.id")).startswith("call_")
    assert str(attributes.pop("gen_ai.conversation.id")).startswith("s_")
    assert attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "look_up",
        "gen_ai.tool.type": "function",
    }
    assert "secret" not in "".join(span.to_json() for span in tracing.spans())


async def test_an_interrupted_tool_ends_its_span(tracing: Tracing) -> None:
    """That of a thread when the thread returns, which nobody can hasten."""
    begun, go = threading.Event(), threading.Event()
    waits = asyncio.Event()

    async def wait() -> None:
        waits.set()
        await asyncio.Event().wait()

    def order() -> str:
        begun.set()
        go.wait(10)
        return "ordered"

    async with Upstream(Model([call("wait"), call("order")])) as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url, tools=[wait, order]))
        turn = line.ask()
        await until(lambda: waits.is_set() and begun.is_set())
        line.interrupt(turn)
        await until(lambda: tracing.spans("turn"))
        assert tracing.tree() == {"turn", "turn/chat m", "turn/execute_tool wait"}
        go.set()
        await until(lambda: tracing.spans("execute_tool order"))
        await line.connection._registry.shut_down()
    assert tracing.one("execute_tool order").parent == tracing.one("turn").context


async def test_a_background_tool_outlives_its_turn_and_stays_its_child(tracing: Tracing) -> None:
    """Its span ends when it is done, after the turn's."""
    begun, go = asyncio.Event(), asyncio.Event()

    @tool(on_interrupt="finish")
    async def order() -> str:
        with tracing.provider.get_tracer("author").start_as_current_span("payment"):
            begun.set()
            await go.wait()
        return "ordered"

    async with Upstream(Model([call("order")])) as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url, tools=[order]))
        turn = line.ask()
        await until(begun.is_set)
        line.interrupt(turn)
        await until(lambda: tracing.spans("turn"))
        assert tracing.tree() == {"turn", "turn/chat m"}
        go.set()
        await until(lambda: tracing.spans("execute_tool"))
        await line.connection._registry.shut_down()
    assert tracing.tree() == {
        "turn",
        "turn/chat m",
        "turn/execute_tool order",
        "turn/execute_tool order/payment",
    }
    order_ended, turn_ended = tracing.one("execute_tool").end_time, tracing.one("turn").end_time
    assert order_ended is not None
    assert turn_ended is not None
    assert order_ended > turn_ended


async def test_a_tool_of_the_client_is_a_span_too(tracing: Tracing) -> None:
    """From the question to its answer."""

    @tool(runs_in="client")
    async def locate() -> str:
        """Never called."""
        raise AssertionError

    async with Upstream(Model([call("locate")], [say("done")])) as upstream:
        line = traced(tracing, OpenAIAgent(model="m", base_url=upstream.url, tools=[locate]))
        line.ask()
        await line.until("tool.running")
        [running] = [event for event in line.events if isinstance(event, ToolRunning)]
        line.send(ToolOutput(call_id=running.call_id, error="secret"))
        await until(lambda: tracing.spans("turn"))
        await line.connection._registry.shut_down()
    assert tracing.one("execute_tool locate").status.description == "tool_error"
    assert tracing.one("execute_tool locate").parent == tracing.one("turn").context


# Agents side by side


async def test_agents_side_by_side_have_a_span_each(tracing: Tracing) -> None:
    """Their model calls are children of their own one, also when they run at the same time."""

    def script(answer: Any) -> None:
        answer.answer("word")

    async with Upstream(script) as upstream:
        branches: dict[str, Agent] = {
            name: OpenAIAgent(model=f"model-of-{name}", base_url=upstream.url) for name in ("ann", "bob")
        }

        async def fails(turn: Turn) -> AsyncIterator[Output]:
            nothing: list[str] = []
            for word in nothing:
                yield word
            raise ValueError("secret")

        async def lead(turn: Turn) -> AsyncIterator[Output]:
            team = Parallel(turn, {**branches, "eve": fails}, "skip")
            async with aclosing(team.outputs()) as outputs:
                async for output in outputs:
                    yield output

        line = traced(tracing, lead)
        await turn_of(line, tracing)
        await line.connection._registry.shut_down()
    assert tracing.tree() == {
        "turn",
        "turn/invoke_agent ann",
        "turn/invoke_agent ann/chat model-of-ann",
        "turn/invoke_agent bob",
        "turn/invoke_agent bob/chat model-of-bob",
        "turn/invoke_agent eve",
    }
    assert (tracing.one("chat model-of-ann").attributes or {})["gen_ai.agent.name"] == "ann"
    assert tracing.one("invoke_agent eve").status.description == "ValueError"


async def test_an_interrupt_ends_the_spans_of_agents_side_by_side(tracing: Tracing) -> None:
    """All of them, below their turn."""

    async def lead(turn: Turn) -> AsyncIterator[Output]:
        team = Parallel(turn, {"ann": endless, "bob": endless})
        async with aclosing(team.outputs()) as outputs:
            async for output in outputs:
                yield output

    line = traced(tracing, lead)
    turn = line.ask()
    await line.until("text.delta", 4)
    line.interrupt(turn)
    await until(lambda: tracing.spans("turn"))
    assert tracing.tree() == {"turn", "turn/invoke_agent ann", "turn/invoke_agent bob"}
