"""Contracts 6 and 13 for tool conversations over the whole line, with a real server and real sockets.

The collector is off, so nothing but the server can close a model's stream.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from bargein_server import Output, Turn
from bargein_server.agents.chat_completions import OpenAIAgent
from bargein_server.agents.tools import tool
from live_server import RawClient, Serving, WireKind, ask, serving
from model_server import Call, Upstream
from scripted_model import Model, Part, call, say
from waiting import until

BYTES_A_TURN = 1200
"""The ids of an input and of its interrupt with their answers, 1,024 of which a session remembers, and what a
model's server sent with a call, of which the agent keeps 512 for a session."""

Position = Callable[[Upstream, RawClient], Awaitable[Call]]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is closed by accident."""
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def play(answer: Call, *parts: Part) -> None:
    """Send parts of a stream, without an end."""
    for index, part in enumerate(parts):
        part(answer, index)


async def begun(upstream: Upstream, *parts: Part) -> Call:
    """Take the next request and begin to answer it."""
    answer = await upstream.call()
    answer.open()
    play(answer, *parts)
    return answer


async def first_waiting(upstream: Upstream, client: RawClient) -> Call:
    """The first request has no answer yet."""
    return await upstream.call()


async def first_speaking(upstream: Upstream, client: RawClient) -> Call:
    """The first answer has begun."""
    answer = await begun(upstream, say("Let me"))
    await client.until("text.delta")
    return answer


async def first_calling(upstream: Upstream, client: RawClient) -> Call:
    """The first answer names a tool and writes its arguments."""
    answer = await begun(upstream, call("double", raw='{"n": '))
    await client.until("tool.call.delta")
    return answer


async def within_a_tool(upstream: Upstream, client: RawClient) -> Call:
    """A tool asks a model itself."""
    answer = await begun(upstream, call("consult", question="why"))
    answer.finish("tool_calls")
    await client.until("tool.running")
    return await upstream.call()


async def within_a_tool_reading(upstream: Upstream, client: RawClient) -> Call:
    """A tool reads what a model answers it."""
    answer = await within_a_tool(upstream, client)
    answer.open()
    answer.text("because")
    await client.until("status")
    return answer


async def after_tools(upstream: Upstream, client: RawClient) -> None:
    """The first step is over: its tools have run."""
    answer = await begun(upstream, say("Hm. "), call("double", n=2), call("double", n=3))
    answer.finish("tool_calls")


async def second_waiting(upstream: Upstream, client: RawClient) -> Call:
    """The second request has no answer yet."""
    await after_tools(upstream, client)
    return await upstream.call()


async def second_speaking(upstream: Upstream, client: RawClient) -> Call:
    """The second answer has begun."""
    await after_tools(upstream, client)
    answer = await begun(upstream, say("So "))
    await client.until("text.delta", text="So ")
    return answer


async def second_held(upstream: Upstream, client: RawClient) -> Call:
    """The second answer has begun, and the client holds the turn."""
    answer = await second_speaking(upstream, client)
    turn = client.frames[0]["turn_id"] if "turn_id" in client.frames[0] else client.frames[1]["turn_id"]
    await client.send({"type": "turn.hold", "turn_id": turn})
    await client.until("turn.held")
    answer.text("it is")
    return answer


POSITIONS: list[Position] = [
    first_waiting, first_speaking, first_calling, within_a_tool, within_a_tool_reading, second_waiting,
    second_speaking, second_held,
]  # fmt: skip


@tool(quick=True)
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


@asynccontextmanager
async def tool_server(upstream: Upstream, wire: WireKind = "transport") -> AsyncIterator[Serving]:
    """Serve an agent with tools."""

    async def consult(turn: Turn, question: str) -> AsyncIterator[object]:
        request = turn.http_client().build_request("POST", f"{upstream.url}/consult", json={"q": question})
        response = await turn.http_client().send(request, stream=True)  # and no `async with`
        async for _ in response.aiter_bytes():
            yield turn.status("Reading")
        yield "an answer"

    @tool(on_interrupt="finish")
    async def order(turn: Turn, what: str) -> str:
        response = await turn.http_client().post(f"{upstream.url}/order", json={"what": what})
        return f"{what}: {response.json()['status']}"

    agent = OpenAIAgent(model="m", base_url=upstream.url, tools=[double, consult, order])

    async def run(turn: Turn) -> AsyncIterator[Output]:
        async for output in agent(turn):  # careless: no `aclosing`
            yield output

    async with serving(run, wire, hold_s=100) as server:
        yield server


@pytest.mark.parametrize("position", POSITIONS, ids=lambda position: position.__name__)
@pytest.mark.usefixtures("no_collector")
async def test_an_interrupt_closes_the_models_stream(wire: WireKind, position: Position) -> None:
    """Every model call of the loop, wherever it stands, and the ones that tools make."""
    async with Upstream() as upstream, tool_server(upstream, wire) as server, server.connect() as client:
        turn = await ask(client)
        answer = await position(upstream, client)
        assert answer.open_now
        calls = len(upstream.calls)
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        assert await answer.gone() in ("eof", "reset")
        await client.until("turn.ended")
        assert len(upstream.calls) == calls


@pytest.mark.usefixtures("no_collector")
async def test_a_tool_that_finishes_keeps_its_request(wire: WireKind) -> None:
    """It is out of the turn's context on purpose: the order is placed, and the next model knows."""
    async with Upstream() as upstream, tool_server(upstream, wire) as server, server.connect() as client:
        turn = await ask(client)
        (await begun(upstream, call("order", what="tea"))).finish("tool_calls")
        order = await upstream.call()
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        await ask(client, "and?", "i2")
        answer = await upstream.call()
        assert [m["content"] for m in answer.body["messages"] if m["role"] == "tool"] == ["running"]
        assert order.open_now
        order.reply(200, {"status": "placed"})
        answer.answer("Wait.")
        await client.until("turn.ended")
        await until(lambda: not server.sessions.background)
        await ask(client, "and now?", "i3")
        answer = await upstream.call()
        assert [m["content"] for m in answer.body["messages"] if m["role"] == "tool"] == ["tea: placed"]
        answer.answer("Done.")
        await client.until("turn.ended")


def level() -> tuple[int, int, int]:
    """Return the tasks, the descriptors and the bytes that are held now."""
    gc.collect()
    return len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")), tracemalloc.get_traced_memory()[0]


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_interrupted_tool_conversations_leave_nothing() -> None:
    """Tasks and descriptors are as they were, and memory but for the ids that a session remembers."""
    model = Model()
    tracemalloc.start()
    try:
        async with (
            Upstream(model) as upstream,
            serving_tools(upstream) as server,
            server.connect() as client,
        ):
            for number in range(40):
                await cut_short(model, upstream, client, number)
            [live] = server.sessions
            await until(lambda: not live.tasks() and not server.sessions.background)
            await until(lambda: not upstream.open_connections)
            before = level()
            for number in range(40, 120):
                await cut_short(model, upstream, client, number)
            await until(lambda: not live.tasks() and not server.sessions.background)
            await until(lambda: not upstream.open_connections)
            after = level()
            assert not server.sessions.abandoned
    finally:
        tracemalloc.stop()
    assert (after[0], after[1]) == (before[0], before[1])
    assert (after[2] - before[2]) / 80 < BYTES_A_TURN


@asynccontextmanager
async def serving_tools(upstream: Upstream) -> AsyncIterator[Serving]:
    """Serve tools of both kinds, with little memory."""

    async def wait() -> None:
        await asyncio.Event().wait()

    @tool(on_interrupt="finish")
    async def finish() -> str:
        await asyncio.sleep(0)
        return "finished"

    agent = OpenAIAgent(model="m", base_url=upstream.url, tools=[double, wait, finish])
    async with serving(agent, max_history_turns=8, max_log_events=64, max_idle_model_connections=0) as server:
        yield server


async def cut_short(model: Model, upstream: Upstream, client: RawClient, number: int) -> None:
    """One turn, interrupted while its tools run."""
    model.requests.clear()
    upstream.forget()
    model.steps[:] = [[say("Hm. "), call("double", n=1), call("finish"), call("wait")]]
    await client.send({"type": "input.text", "id": f"i{number}", "text": "go"})
    while (await client.until("tool.running"))["arguments"] != {}:
        pass
    await client.send({"type": "interrupt", "id": f"x{number}", "input_id": f"i{number}"})
    await client.until("turn.ended")
    client.frames.clear()
