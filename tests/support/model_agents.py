"""Agents that read a model's stream with the SDK, with and without care."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from openai import VERSION, AsyncOpenAI

from held_turn import HeldTurn
from model_server import Call, Upstream

Agent = AsyncGenerator[str, None]

DRAINS = not VERSION.startswith("2.")
"""Whether the SDK reads a finished answer to its end, so that its connection is used again."""

KEPT: list[Any] = []
"""Streams that some agent keeps for ever."""


async def ask(model: AsyncOpenAI) -> Any:
    """Ask for a stream."""
    return await model.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "tell me a story"}], stream=True
    )


async def careful(model: AsyncOpenAI) -> Agent:
    """Close the stream as the manual recommends."""
    async with await ask(model) as stream:
        async for chunk in stream:
            yield chunk.choices[0].delta.content or ""


async def careless(model: AsyncOpenAI) -> Agent:
    """Leave the stream open, as most code does."""
    stream = await ask(model)
    async for chunk in stream:
        yield chunk.choices[0].delta.content or ""


async def keeping(model: AsyncOpenAI) -> Agent:
    """Keeps the stream for ever."""
    KEPT.append(stream := await ask(model))
    async for chunk in stream:
        yield chunk.choices[0].delta.content or ""


async def swallowing(model: AsyncOpenAI) -> Agent:
    """Takes a cancel, and goes on with the same stream."""
    KEPT.append(stream := await ask(model))
    chunks = aiter(stream)
    while True:
        try:
            chunk = await anext(chunks, None)
        except asyncio.CancelledError:
            continue
        if chunk is None:
            return
        yield chunk.choices[0].delta.content or ""


async def nested(model: AsyncOpenAI) -> Agent:
    """Pass the output of an inner generator on, and close neither."""
    async for text in careless(model):
        yield text


AGENTS: list[Callable[[AsyncOpenAI], Agent]] = [careful, careless, keeping, swallowing, nested]


async def queue_up(model: AsyncOpenAI) -> HeldTurn:
    """Request one more stream; return when it waits for a place in the pool."""
    turn = HeldTurn(careful(model))
    while not len(turn.streams):
        await asyncio.sleep(0)
    return turn


async def is_answered(turn: HeldTurn, upstream: Upstream) -> None:
    """The request of `turn` has got a place, and is answered."""
    call = await upstream.call()
    call.answer("fine")
    assert await turn.over() is None
    assert turn.outputs[0] == "fine"


async def next_request_is_fine(model: AsyncOpenAI, upstream: Upstream) -> None:
    """The one place in the pool is free again."""
    await is_answered(HeldTurn(careful(model)), upstream)


async def one_token(upstream: Upstream) -> Call:
    """The model answers with one token and then thinks."""
    call = await upstream.call()
    call.open()
    call.text("Once")
    return call
