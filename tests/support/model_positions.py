"""Positions of an agent over the whole line: what its model has answered when a test interrupts it."""

from __future__ import annotations

import asyncio

from live_server import RawClient
from model_agents import one_token
from model_server import Call, Upstream


async def waiting_for_headers(upstream: Upstream, client: RawClient, turn: str) -> Call:
    """The request has arrived and has no answer yet."""
    return await upstream.call()


async def waiting_for_the_model(upstream: Upstream, client: RawClient, turn: str) -> Call:
    """One token has come, the model thinks."""
    call = await one_token(upstream)
    await client.until("text.delta")
    return call


async def held(upstream: Upstream, client: RawClient, turn: str) -> Call:
    """The generator stands at its `yield`, because the client holds the turn."""
    call = await one_token(upstream)
    await client.until("text.delta")
    await client.send({"type": "turn.hold", "turn_id": turn})
    await client.until("turn.held")
    call.text(" upon")
    await asyncio.sleep(0)
    return call


async def blocked(upstream: Upstream, client: RawClient, turn: str) -> Call:
    """The generator stands at its `yield`, because the client does not read."""
    call = await one_token(upstream)
    for _ in range(4000):
        call.text("x" * 4000)
    return call
