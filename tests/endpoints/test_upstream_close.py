"""Contract 6 over the whole line: an interrupt closes the model's stream at the socket.

The collector is off and a global keeps the careless agents' streams, so nothing but the server can
close them. The control is in `hosting/test_http_client_positions.py`: a cancel alone leaves them open.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI

from bargein_server import Output, Turn
from live_server import Serving, WireKind, ask, serving
from model_agents import AGENTS, KEPT, careful, careless
from model_positions import blocked, held, waiting_for_headers, waiting_for_the_model
from model_server import Upstream
from waiting import until

ModelAgent = Callable[[AsyncOpenAI], AsyncIterator[str]]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is closed by accident."""
    gc.disable()
    yield
    KEPT.clear()
    gc.enable()
    gc.collect()


def served(agent: ModelAgent, upstream: Upstream) -> Callable[[Turn], AsyncIterator[Output]]:
    """Return an agent for the server that gives the model's client to `agent`."""

    def start(turn: Turn) -> AsyncIterator[Output]:
        model = AsyncOpenAI(base_url=upstream.url, api_key="none", http_client=turn.http_client())
        generator = agent(model)
        KEPT.append(generator)
        return generator

    return start


POSITIONS = [waiting_for_headers, waiting_for_the_model, held, blocked]


def is_full(server: Serving) -> bool:
    return any(live.core.full for live in server.sessions)


@pytest.mark.parametrize("position", POSITIONS, ids=lambda position: position.__name__)
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.__name__)
@pytest.mark.usefixtures("no_collector")
async def test_an_interrupt_closes_the_models_stream(wire: WireKind, agent: Any, position: Any) -> None:
    """The raw socket server sees its connection end, whatever the agent does and wherever it stands."""
    async with (
        Upstream() as upstream,
        serving(served(agent, upstream), wire, hold_s=100) as server,
        server.connect(max_queue=1) as client,
    ):
        turn = await ask(client)
        call = await position(upstream, client, turn)
        if position is blocked:
            await until(lambda: is_full(server), "back-pressure")
        assert call.open_now
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        assert await call.gone() in ("eof", "reset")


@pytest.mark.parametrize("agent", [careful, careless], ids=lambda agent: agent.__name__)
@pytest.mark.usefixtures("no_collector")
async def test_it_is_closed_while_a_finally_still_runs(wire: WireKind, agent: Any) -> None:
    """The cleanup waits for an event that is set only after the model's stream was seen to end."""
    closed, cleaned = asyncio.Event(), asyncio.Event()

    def with_cleanup(model: AsyncOpenAI) -> AsyncIterator[str]:
        async def generator() -> AsyncIterator[str]:
            try:
                async for text in agent(model):
                    yield text
            finally:
                await closed.wait()
                cleaned.set()

        return generator()

    async with (
        Upstream() as upstream,
        serving(served(with_cleanup, upstream), wire) as server,
        server.connect() as client,
    ):
        turn = await ask(client)
        call = await waiting_for_the_model(upstream, client, turn)
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await call.gone()
        assert not cleaned.is_set()
        closed.set()
        await until(cleaned.is_set)


@pytest.mark.usefixtures("no_collector")
async def test_a_call_after_the_fence_is_refused(wire: WireKind) -> None:
    """A `finally` that asks the model for a summary reaches no model."""
    refused = asyncio.Event()

    def asks_again(model: AsyncOpenAI) -> AsyncIterator[str]:
        async def generator() -> AsyncIterator[str]:
            try:
                async for text in careless(model):
                    yield text
            finally:
                try:
                    async for _ in careless(model):
                        pass
                except asyncio.CancelledError:
                    refused.set()
                    raise

        return generator()

    async with (
        Upstream() as upstream,
        serving(served(asks_again, upstream), wire) as server,
        server.connect() as client,
    ):
        turn = await ask(client)
        await waiting_for_the_model(upstream, client, turn)
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await until(refused.is_set)
        assert len(upstream.calls) == 1


async def test_another_sessions_stream_is_left_alone(wire: WireKind) -> None:
    """Streams belong to turns, not to the client that they share."""
    async with (
        Upstream() as upstream,
        serving(served(careless, upstream), wire) as server,
        server.connect() as one,
        server.connect() as other,
    ):
        turn = await ask(one)
        call = await waiting_for_the_model(upstream, one, turn)
        spared_turn = await ask(other)
        spared = await waiting_for_the_model(upstream, other, spared_turn)
        await one.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await call.gone()
        spared.text(" upon")
        assert (await other.until("text.delta"))["text"] == " upon"
        spared.finish()
        assert (await other.until("turn.ended"))["status"] == "completed"
