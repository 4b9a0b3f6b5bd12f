"""`bargein_server.http_client()` in a model client at module level: each request finds its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI

import bargein_server
from bargein_server import Output, Turn
from live_server import ask, serving
from model_agents import DRAINS, KEPT, careless, one_token
from model_positions import held, waiting_for_headers
from model_server import Upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The model's server."""
    async with Upstream() as server:
        yield server


@pytest.fixture
def model(upstream: Upstream) -> AsyncOpenAI:
    """A model client that is made before the server."""
    return AsyncOpenAI(base_url=upstream.url, api_key="none", http_client=bargein_server.http_client())


@pytest.mark.parametrize("position", [waiting_for_headers, held])
@pytest.mark.parametrize("all_clients", [True, False])
async def test_its_requests_end_with_their_turn(
    upstream: Upstream, model: AsyncOpenAI, position: object, all_clients: bool
) -> None:
    """As those of `turn.http_client()`, also when `close_model_calls` is off."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        KEPT.append(texts := careless(model))
        async for text in texts:
            yield text

    options = {"hold_s": 100, "close_model_calls": all_clients}
    async with serving(agent, **options) as server, server.connect() as client:  # type: ignore[arg-type]
        turn = await ask(client)
        call = await position(upstream, client, turn)  # type: ignore[operator]
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        assert await call.gone() in ("eof", "reset")
    KEPT.clear()


async def test_all_its_requests_are_refused_after_the_end(upstream: Upstream, model: AsyncOpenAI) -> None:
    """Those without a stream too: who passes this client wants no call of an ended turn."""
    refused = asyncio.Event()

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        yield "begun"
        try:
            await asyncio.Event().wait()
        finally:
            try:
                await model.chat.completions.create(model="m", messages=[])
            except bargein_server.TurnClosed:
                refused.set()

    async with serving(agent) as server, server.connect() as client:
        turn = await ask(client)
        await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await asyncio.wait_for(refused.wait(), 5)
    assert upstream.calls == []


async def test_it_uses_the_connections_of_the_server(upstream: Upstream, model: AsyncOpenAI) -> None:
    """Its limit, its idle connections, and no close by an agent counts; tasks that outlive a turn too."""
    entered: list[int] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        async with model.with_options() as own:  # closes the client of all turns, as its author thinks
            async for text in careless(own):
                yield text
        same = AsyncOpenAI(base_url=upstream.url, api_key="none", http_client=turn.http_client())
        async for text in careless(same):
            yield text
        entered.append(turn._host._streams.entered)  # type: ignore[attr-defined]
        yield await turn.spawn(_first(model), outlive=True)

    async with serving(agent, max_model_calls=1) as server, server.connect() as client:
        for n in range(2):
            await ask(client, id=f"i{n}")
            for _ in range(3):
                (await upstream.call()).answer("fine")
            assert (await client.until("turn.ended"))["status"] == "completed"
        assert entered == [4, 4]  # two requests, in flight and with their bodies
        assert upstream.connections == (1 if DRAINS else 6)
        assert upstream.open_connections == (1 if DRAINS else 0)
    assert upstream.open_connections == 0


async def _first(model: AsyncOpenAI) -> str:
    return "".join([text async for text in careless(model)])


async def test_a_turn_waits_for_the_place_of_another(upstream: Upstream, model: AsyncOpenAI) -> None:
    """`max_model_calls` counts its requests."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        async for text in careless(model):
            yield text

    async with (
        serving(agent, max_model_calls=1) as server,
        server.connect() as one,
        server.connect() as other,
    ):
        turn = await ask(one)
        await one_token(upstream)
        await one.until("text.delta")
        await ask(other)
        await other.until("turn.started")
        assert len(upstream.calls) == 1
        await one.send({"type": "interrupt", "id": "x", "turn_id": turn})
        (await upstream.call()).answer("fine")
        assert (await other.until("turn.ended"))["status"] == "completed"
