"""Contract 6: whatever position an agent stands in, the model's stream is closed at the socket.

Every test runs with the collector off and with the stream referenced, so that nothing is closed by
accident.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai import AsyncOpenAI

from bargein_server.hosting.http_client import TurnClient, create_http_client
from bargein_server.hosting.upstream import TURN_STREAMS, TurnStreams
from held_turn import HeldTurn
from model_agents import (
    AGENTS,
    KEPT,
    Agent,
    ask,
    careful,
    careless,
    is_answered,
    keeping,
    nested,
    next_request_is_fine,
    one_token,
    queue_up,
)
from model_server import WAIT_S, Upstream

pytestmark = pytest.mark.usefixtures("no_accidents")

each_agent = pytest.mark.parametrize("agent", AGENTS, ids=[agent.__name__ for agent in AGENTS])


@each_agent
async def test_waiting_for_the_model(agent: Any, model: AsyncOpenAI, upstream: Upstream) -> None:
    """An agent that waits for the next token: dropped, and the reader sees a cancel."""
    turn = HeldTurn(agent(model))
    call = await one_token(upstream)
    while not turn.outputs:
        await asyncio.sleep(0)
    turn.interrupt()
    assert await call.gone() in ("eof", "reset")
    assert await turn.over() is None
    await next_request_is_fine(model, upstream)


@each_agent
@pytest.mark.parametrize("cancelled", [True, False], ids=["cancelled", "only closed"])
async def test_standing_at_its_yield(
    agent: Any, cancelled: bool, model: AsyncOpenAI, upstream: Upstream
) -> None:
    """An agent that nobody pulls, held or behind a slow client: dropped, cancelled or not."""
    turn = HeldTurn(agent(model), hold_after=1)
    call = await one_token(upstream)
    await turn.held()
    if cancelled:
        turn.interrupt()
    else:
        turn.streams.close()
    assert await call.gone() in ("eof", "reset")
    await turn.streams.drained()
    await next_request_is_fine(model, upstream)
    turn.task.cancel()
    await turn.over()


@pytest.mark.parametrize("agent", [careless, keeping, nested], ids=["careless", "keeping", "nested"])
async def test_control_a_cancel_alone_is_not_enough(
    agent: Any, model: AsyncOpenAI, upstream: Upstream
) -> None:
    """Without `close` such an agent holds its stream for ever: what the tests above can miss."""
    turn = HeldTurn(agent(model), hold_after=1, closes=False)
    call = await one_token(upstream)
    await turn.held()
    turn.task.cancel()
    await asyncio.wait({turn.task})
    call.text("upon")
    call.text("a time")
    # A whole exchange on another connection: time enough for the first to be closed, if it were to be.
    async with create_http_client() as other:
        asking = asyncio.create_task(other.get(upstream.url))
        (await upstream.call()).reply(200, {})
        await asking
    assert call.open_now
    turn.streams.close()
    await call.gone()
    await turn.streams.drained()


async def test_a_finally_that_takes_long(model: AsyncOpenAI, upstream: Upstream) -> None:
    """A `finally` inside `async with` holds nothing: the stream is dropped before it ends."""
    cleaning, may_end = asyncio.Event(), asyncio.Event()

    async def agent() -> Agent:
        async with await ask(model) as stream:
            async for chunk in stream:
                yield chunk.choices[0].delta.content
                try:
                    await asyncio.Event().wait()  # a tool
                finally:
                    cleaning.set()
                    await may_end.wait()

    turn = HeldTurn(agent())
    call = await one_token(upstream)
    while not turn.outputs:
        await asyncio.sleep(0)
    turn.interrupt()
    assert await call.gone() in ("eof", "reset")
    await asyncio.wait_for(cleaning.wait(), WAIT_S)
    assert not turn.task.done()
    await next_request_is_fine(model, upstream)
    may_end.set()
    assert await turn.over() is None


async def test_no_answer_yet(model: AsyncOpenAI, upstream: Upstream) -> None:
    """A request that has no headers yet is aborted."""
    turn = HeldTurn(careless(model))
    call = await upstream.call()
    turn.interrupt()
    assert await call.gone() in ("eof", "reset")
    assert await turn.over() is None
    await next_request_is_fine(model, upstream)


async def test_no_answer_yet_and_only_closed(model: AsyncOpenAI, upstream: Upstream) -> None:
    """Aborted without a cancel it ends as one; the SDK does not try again."""
    turn = HeldTurn(careless(model))
    call = await upstream.call()
    turn.streams.close()
    assert await call.gone() in ("eof", "reset")
    assert await turn.over() is None
    assert turn.task.cancelled()
    assert len(upstream.calls) == 1


async def test_waiting_for_a_place_in_the_pool(model: AsyncOpenAI, upstream: Upstream) -> None:
    """A request that waits for a connection leaves the queue, and never reaches the model."""
    busy = HeldTurn(careless(model), hold_after=1)
    await one_token(upstream)
    await busy.held()
    waiting = HeldTurn(careless(model))
    while not len(waiting.streams):
        await asyncio.sleep(0)
    waiting.interrupt()
    assert await waiting.over() is None
    busy.interrupt()
    await busy.over()
    assert len(upstream.calls) == 1
    await next_request_is_fine(model, upstream)


async def test_shielded_and_detached_children(model: AsyncOpenAI, upstream: Upstream) -> None:
    """A request in a task that the cancel does not reach is aborted all the same."""

    async def agent() -> Agent:
        KEPT.append(task := asyncio.create_task(ask(model)))
        yield "asked"
        await asyncio.shield(task)

    turn = HeldTurn(agent())
    call = await upstream.call()
    turn.interrupt()
    assert await call.gone() in ("eof", "reset")
    assert await turn.over() is None
    await asyncio.wait(KEPT)
    assert KEPT[0].cancelled()
    await next_request_is_fine(model, upstream)


@pytest.mark.parametrize("steps", [None, *range(6)])
async def test_a_whole_answer_that_is_being_read(
    steps: int | None, http_client: TurnClient, model: AsyncOpenAI, upstream: Upstream
) -> None:
    """A request without streaming is dropped while its body comes in, a second cancel or not."""
    streams = TurnStreams()

    async def whole() -> None:
        TURN_STREAMS.set(streams)
        await http_client.get(upstream.url)

    task = asyncio.create_task(whole())
    call = await upstream.call()
    call.begin(100)
    while streams.entered < 2:  # the flight, then the body
        await asyncio.sleep(0)
    next_turn = await queue_up(model)
    task.cancel()
    streams.close()
    if steps is not None:
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
    assert await call.gone() in ("eof", "reset")
    await asyncio.wait({task})
    assert task.cancelled()
    await is_answered(next_turn, upstream)


async def test_a_stream_that_was_not_read_yet(model: AsyncOpenAI, upstream: Upstream) -> None:
    """A stream is the turn's from its headers on, whether anything is read from it or not."""

    async def agent() -> Agent:
        KEPT.append(await ask(model))
        yield "asked"

    turn = HeldTurn(agent(), hold_after=1)
    call = await one_token(upstream)
    await turn.held()
    turn.interrupt()
    assert await call.gone() in ("eof", "reset")
    assert await turn.over() is None


# A second cancel


@pytest.mark.parametrize("steps", range(8))
@pytest.mark.parametrize("position", ["waiting", "at yield", "no answer"])
async def test_a_second_cancel_cannot_cut_the_close(
    position: str, steps: int, model: AsyncOpenAI, upstream: Upstream
) -> None:
    """However soon it comes, a second cancel loses neither the close nor the place in the pool."""
    turn = HeldTurn(careful(model), hold_after=1 if position == "at yield" else None)
    call = await (upstream.call() if position == "no answer" else one_token(upstream))
    while position != "no answer" and not turn.outputs:
        await asyncio.sleep(0)
    next_turn = await queue_up(model)
    turn.interrupt()
    for _ in range(steps):
        await asyncio.sleep(0)
    turn.task.cancel()
    assert await call.gone() in ("eof", "reset")
    await turn.over()
    await is_answered(next_turn, upstream)


@pytest.mark.parametrize("steps", range(1, 8))
async def test_a_cancel_of_whoever_closes(steps: int, model: AsyncOpenAI, upstream: Upstream) -> None:
    """An author's own `close()` that is cancelled halfway is finished all the same."""
    asking = asyncio.create_task(ask(model))
    call = await one_token(upstream)
    stream = await asking
    next_turn = await queue_up(model)
    closing = asyncio.create_task(stream.close())
    for _ in range(steps):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait({closing})
    assert await call.gone() in ("eof", "reset")
    await is_answered(next_turn, upstream)
