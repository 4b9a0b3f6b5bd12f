"""The client that bargein hands out: the gate, whose a stream is, and what any client does."""

from __future__ import annotations

import asyncio
from contextvars import Context

import httpx2
import pytest
from openai import AsyncOpenAI

from bargein_server import TurnClosed
from bargein_server.hosting.http_client import TurnClient, create_http_client
from bargein_server.hosting.upstream import TURN_STREAMS, TurnStreams
from held_turn import HeldTurn
from model_agents import (
    AGENTS,
    DRAINS,
    KEPT,
    Agent,
    ask,
    careless,
    is_answered,
    next_request_is_fine,
    one_token,
    queue_up,
)
from model_server import WAIT_S, Upstream

pytestmark = pytest.mark.usefixtures("no_accidents")


# The gate


async def test_requests_after_the_fence_are_refused(model: AsyncOpenAI, upstream: Upstream) -> None:
    """A `finally` that asks the model again is refused without a connection; outside it may."""
    refused = asyncio.Event()

    async def agent() -> Agent:
        try:
            async with await ask(model) as stream:
                async for chunk in stream:
                    yield chunk.choices[0].delta.content
        finally:
            try:
                await ask(model)
            except TurnClosed:
                refused.set()
            KEPT.append(asyncio.create_task(ask(model), context=Context()))

    turn = HeldTurn(agent())
    call = await one_token(upstream)
    while not turn.outputs:
        await asyncio.sleep(0)
    turn.interrupt()
    await call.gone()
    await asyncio.wait_for(refused.wait(), WAIT_S)
    (await upstream.call()).answer("a summary")
    assert await turn.over() is None
    assert len(upstream.calls) == 2
    async with await KEPT.pop() as stream:
        assert (await anext(stream)).choices[0].delta.content == "a summary"


async def test_a_request_that_is_aborted_says_so(http_client: TurnClient, upstream: Upstream) -> None:
    """Whoever awaits it sees `TurnClosed`, and no network error that one might retry."""
    streams = TurnStreams()

    async def request() -> None:
        TURN_STREAMS.set(streams)
        with pytest.raises(TurnClosed):
            await http_client.get(upstream.url)

    task = asyncio.create_task(request())
    call = await upstream.call()
    streams.close()
    assert await call.gone() in ("eof", "reset")
    await task


async def test_an_answer_that_comes_with_the_fence(http_client: TurnClient, upstream: Upstream) -> None:
    """Headers that arrive in the very step of the fence: refused, and closed at the socket."""
    streams = TurnStreams()

    async def fence(response: httpx2.Response) -> None:
        streams.close()

    async def request() -> None:
        TURN_STREAMS.set(streams)
        with pytest.raises(TurnClosed):
            await http_client.send(http_client.build_request("GET", upstream.url), stream=True)

    http_client.event_hooks = {"response": [fence]}
    task = asyncio.create_task(request())
    call = await upstream.call()
    call.begin(100)
    await task
    assert await call.gone() in ("eof", "reset")


async def test_a_turn_that_ends_by_itself(model: AsyncOpenAI, upstream: Upstream) -> None:
    """A careless `break` holds nothing after the turn."""

    async def agent() -> Agent:
        KEPT.append(stream := await ask(model))
        async for chunk in stream:
            yield chunk.choices[0].delta.content
            break

    turn = HeldTurn(agent())
    call = await one_token(upstream)
    assert await call.gone() in ("eof", "reset")
    assert await turn.over() is None
    await next_request_is_fine(model, upstream)


async def test_a_stream_opened_before_the_turn(model: AsyncOpenAI, upstream: Upstream) -> None:
    """A stream of the session becomes the turn's when it is read in it."""
    asking = asyncio.create_task(ask(model))
    call = await one_token(upstream)
    KEPT.append(stream := await asking)

    async def agent() -> Agent:
        async for chunk in stream:
            yield chunk.choices[0].delta.content

    turn = HeldTurn(agent(), hold_after=1)
    await turn.held()
    assert len(turn.streams) == 1
    turn.interrupt()
    assert await call.gone() in ("eof", "reset")
    await turn.over()


async def test_a_stream_that_is_first_read_after_the_fence(model: AsyncOpenAI, upstream: Upstream) -> None:
    """Reading a stream of the session in a turn that has ended is refused."""
    asking = asyncio.create_task(ask(model))
    await one_token(upstream)
    stream = await asking
    streams = TurnStreams()
    streams.close()

    async def read() -> None:
        TURN_STREAMS.set(streams)
        async for _ in stream:
            pass

    with pytest.raises(TurnClosed):
        await asyncio.create_task(read())
    await stream.close()


async def test_a_stream_of_another_turn_changes_hands(http_client: TurnClient, upstream: Upstream) -> None:
    """A stream belongs to the turn that reads it, and to one turn at a time."""
    first, second = TurnStreams(), TurnStreams()

    async def opened() -> httpx2.Response:
        TURN_STREAMS.set(first)
        return await http_client.send(http_client.build_request("GET", upstream.url), stream=True)

    async def read(response: httpx2.Response) -> None:
        TURN_STREAMS.set(second)
        async for _ in response.aiter_raw():
            pass

    opening = asyncio.create_task(opened())
    call = await upstream.call()
    call.begin(100)
    response = await opening
    reading = asyncio.create_task(read(response))
    while not len(second):
        await asyncio.sleep(0)
    first.close()
    await first.drained()
    assert call.open_now
    reading.cancel()
    second.close()
    assert await call.gone() in ("eof", "reset")
    await asyncio.wait({reading})


async def test_whole_answers_share_a_connection(model: AsyncOpenAI, upstream: Upstream) -> None:
    """Keep-alive is as it was: three whole streams use one connection."""
    for _ in range(3):
        await next_request_is_fine(model, upstream)
    assert upstream.connections == (1 if DRAINS else 3)
    assert upstream.open_connections == (1 if DRAINS else 0)


async def test_many_turns_at_once(upstream: Upstream) -> None:
    """Twenty turns on a pool of ten, interrupted wherever they are: nothing stays open."""
    async with create_http_client(max_connections=10, max_keepalive=10) as http_client:
        model = AsyncOpenAI(base_url=upstream.url, api_key="none", http_client=http_client)
        turns = [HeldTurn(AGENTS[n % 3](model), hold_after=n % 2 or None) for n in range(20)]
        for n in range(10):
            call = await upstream.call()
            if n % 3:
                call.open()
                call.text("Once")
        for turn in turns:
            turn.interrupt()
        for turn in turns:
            await turn.over()
        for call in upstream.calls:
            assert await call.gone() in ("eof", "reset")
        await next_request_is_fine(model, upstream)


async def test_an_event_loop_on_another_thread(upstream: Upstream) -> None:
    """A stream that an agent opened on a loop of its own, in a thread, is closed as well."""
    loop, opened = asyncio.get_running_loop(), asyncio.Event()

    async def read() -> None:
        async with create_http_client() as client, client.stream("GET", upstream.url) as response:
            loop.call_soon_threadsafe(opened.set)
            async for _ in response.aiter_raw():
                pass

    async def agent() -> Agent:
        yield "begun"
        await asyncio.to_thread(asyncio.run, read())

    turn = HeldTurn(agent())
    call = await upstream.call()
    call.begin(100)
    await asyncio.wait_for(opened.wait(), WAIT_S)
    turn.streams.close()
    assert await call.gone() in ("eof", "reset")
    assert await turn.over() is None
    assert turn.task.cancelled()


# The client


async def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    """A proxy in the environment is used, for all but loopback addresses, and its streams are the turn's."""
    monkeypatch.setenv("HTTP_PROXY", upstream.url.removesuffix("/v1"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with create_http_client() as http_client:
        far = AsyncOpenAI(base_url="http://model.invalid/v1", api_key="none", http_client=http_client)
        turn = HeldTurn(careless(far), hold_after=1)
        call = await one_token(upstream)
        assert call.path == "http://model.invalid/v1/chat/completions"
        await turn.held()
        turn.interrupt()
        assert await call.gone() in ("eof", "reset")
        await turn.over()
        near = AsyncOpenAI(base_url=upstream.url, api_key="none", http_client=http_client)
        await next_request_is_fine(near, upstream)
        assert upstream.calls[-1].path == "/v1/chat/completions"


async def test_outside_a_turn(http_client: TurnClient, upstream: Upstream) -> None:
    """Without a turn it is a plain client."""
    asking = asyncio.create_task(http_client.get(upstream.url))
    (await upstream.call()).reply(200, {"fine": True})
    assert (await asking).json() == {"fine": True}


async def test_a_cancel_outside_a_turn(
    http_client: TurnClient, model: AsyncOpenAI, upstream: Upstream
) -> None:
    """A request that is cancelled while its body is read gives its place back, as in a plain client."""
    task = asyncio.create_task(http_client.get(upstream.url))
    call = await upstream.call()
    call.begin(100)
    for _ in range(20):
        await asyncio.sleep(0)
    next_turn = await queue_up(model)
    task.cancel()
    assert await call.gone() in ("eof", "reset")
    await asyncio.wait({task})
    await is_answered(next_turn, upstream)


async def test_a_close_that_fails() -> None:
    """A stream that cannot be closed concerns nobody after the interrupt, and is let go."""

    class Stuck(httpx2.AsyncByteStream):
        async def aclose(self) -> None:
            raise httpx2.CloseError("no")

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, stream=Stuck())

    streams = TurnStreams()
    async with TurnClient(transport=Transport()) as http_client:
        TURN_STREAMS.set(streams)
        response = await http_client.send(http_client.build_request("GET", "http://model/"), stream=True)
        streams.close()
        await streams.drained()
        del response
