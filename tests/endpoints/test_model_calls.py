"""Contract 6 for clients that bargein did not hand out: their streams end with the turn, too.

The clients are made outside of turns, as at the top of a module. The collector is off and a global keeps
careless agents' streams, so nothing but the server can close them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import httpx
import httpx2
import pytest
from openai import AsyncOpenAI

from bargein_server import Output, Turn
from bargein_server.agent import NamedCall
from bargein_server.agents.tool_loop import ToolRunner
from bargein_server.agents.tools import tool
from bargein_server.guard.limits import RareLog
from bargein_server.hosting import model_calls
from live_server import ask, serving
from model_agents import AGENTS, KEPT, careless, one_token
from model_agents import ask as ask_model
from model_positions import held, waiting_for_headers, waiting_for_the_model
from model_server import Upstream
from waiting import until

ModelAgent = Callable[[AsyncOpenAI], AsyncIterator[str]]


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Nothing is closed by accident."""
    gc.disable()
    yield
    KEPT.clear()
    gc.enable()
    gc.collect()


@pytest.fixture(params=["sdk", "httpx2", "httpx"])
async def model(request: pytest.FixtureRequest, upstream: Upstream) -> AsyncIterator[AsyncOpenAI]:
    """The SDK with its own client, with one of httpx2, and with one of httpx."""
    clients: dict[str, Any] = {
        "sdk": lambda: None,
        "httpx2": lambda: httpx2.AsyncClient(trust_env=False),
        "httpx": lambda: httpx.AsyncClient(trust_env=False),
    }
    http_client = clients[request.param]()
    async with AsyncOpenAI(base_url=upstream.url, api_key="none", http_client=http_client) as model:
        yield model


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """The model's server."""
    async with Upstream() as server:
        yield server


async def in_background(model: AsyncOpenAI) -> AsyncIterator[str]:
    """Read the model in a task that nobody cancels, as some frameworks do, and yield from a queue."""
    texts: asyncio.Queue[str] = asyncio.Queue()

    async def run() -> None:
        async for text in careless(model):
            texts.put_nowait(text)

    KEPT.append(asyncio.create_task(run()))
    while True:
        yield await texts.get()


def served(agent: ModelAgent, model: AsyncOpenAI) -> Callable[[Turn], AsyncIterator[Output]]:
    """Return an agent for the server that uses a model without any glue."""

    def start(turn: Turn) -> AsyncIterator[Output]:
        KEPT.append(generator := agent(model))
        return generator

    return start


@pytest.mark.parametrize("position", [waiting_for_headers, waiting_for_the_model, held])
@pytest.mark.parametrize("agent", [*AGENTS, in_background])
async def test_an_interrupt_closes_the_stream_of_any_client(
    model: AsyncOpenAI, upstream: Upstream, agent: Any, position: Any
) -> None:
    """The model's server sees its connection end, wherever the agent stands."""
    async with serving(served(agent, model), hold_s=100) as server, server.connect() as client:
        turn = await ask(client)
        call = await position(upstream, client, turn)
        assert call.open_now
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        assert await call.gone() in ("eof", "reset")


async def test_the_end_of_a_turn_closes_a_stream_that_was_left(
    model: AsyncOpenAI, upstream: Upstream
) -> None:
    """A `break` out of a stream holds no connection."""

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        KEPT.append(stream := await ask_model(model))
        async for chunk in stream:
            yield chunk.choices[0].delta.content
            break

    async with serving(agent) as server, server.connect() as client:
        await ask(client)
        call = await one_token(upstream)
        await client.until("turn.ended")
        assert await call.gone() in ("eof", "reset")


async def test_control_without_the_setting_it_goes_on(model: AsyncOpenAI, upstream: Upstream) -> None:
    """Switched off, the server closes nothing but streams of its own client."""
    agent = served(in_background, model)
    async with serving(agent, close_model_calls=False) as server, server.connect() as client:
        turn = await ask(client)
        call = await waiting_for_the_model(upstream, client, turn)
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        await until(lambda: not any(host.tasks() for host in server.sessions), "the turn's end")
        call.finish()
        task = next(kept for kept in KEPT if isinstance(kept, asyncio.Task))
        await task
        assert call.open_now or await call.gone() != "reset"


# After the fence


async def test_a_background_task_reads_nothing_and_asks_nothing_more(
    model: AsyncOpenAI,
    upstream: Upstream,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its read ends as a cancel, not as an answer; further calls open no connection; one line is logged."""
    monkeypatch.setattr(model_calls, "log", RareLog(logging.getLogger("bargein.turn")))
    ends: list[BaseException | None] = []
    reading = asyncio.Event()

    async def executor() -> None:
        for _ in range(3):
            try:
                async for _text in careless(model):
                    reading.set()
            except BaseException as error:
                ends.append(error)
            else:
                ends.append(None)

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        KEPT.append(asyncio.create_task(executor()))
        yield "asked"
        await asyncio.Event().wait()

    async with serving(agent) as server, server.connect() as client:
        turn = await ask(client)
        call = await one_token(upstream)
        await reading.wait()
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await call.gone()
        await until(lambda: len(ends) == 3, "the executor's end")
    assert [type(end).__name__ for end in ends] == ["TurnClosed"] * 3
    assert len(upstream.calls) == 1
    (refused,) = [record for record in caplog.records if "refused" in record.getMessage()]
    assert "outlive=True" in refused.getMessage()
    assert refused.exc_info is None


async def test_a_task_that_outlives_its_turn_goes_on(model: AsyncOpenAI, upstream: Upstream) -> None:
    """`turn.spawn(…, outlive=True)` keeps its stream, and may open another one."""

    async def read() -> list[str]:
        return [text async for text in careless(model)] + [text async for text in careless(model)]

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        KEPT.append(turn.spawn(read(), outlive=True))
        yield "asked"
        await asyncio.Event().wait()

    async with serving(agent) as server, server.connect() as client:
        turn = await ask(client)
        call = await one_token(upstream)
        await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        call.text(" upon")
        call.finish()
        (await upstream.call()).answer("a time")
        assert [text for text in await KEPT[-1] if text] == ["Once", " upon", "a time"]


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_requests_that_are_no_streams_are_left_alone(upstream: Upstream, library: Any) -> None:
    """A webhook in a cleanup is sent, and one in flight in a task of its own gets its answer."""
    answers: list[int] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        async with library.AsyncClient(trust_env=False) as http:
            in_flight = asyncio.create_task(http.post(upstream.url, json={"booked": True}))
            try:
                yield "booking"
                await asyncio.Event().wait()
            finally:
                answers.append((await asyncio.shield(in_flight)).status_code)
                answers.append((await http.post(upstream.url, json={"cancelled": True})).status_code)

    async with serving(agent) as server, server.connect() as client:
        turn = await ask(client)
        first = await upstream.call()
        await client.until("text.delta")
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        first.reply(201, {})
        (await upstream.call()).reply(202, {})
        await until(lambda: len(answers) == 2, "both answers")
    assert answers == [201, 202]


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_stream_in_a_protected_section_is_finished(upstream: Upstream, library: Any) -> None:
    """An interrupt that is deferred closes nothing before the section is over."""
    bodies: list[bytes] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        async with library.AsyncClient(trust_env=False) as http, turn.uninterruptible():
            yield "paying"
            async with http.stream("POST", upstream.url) as response:
                bodies.append(await response.aread())
        await asyncio.Event().wait()

    async with serving(agent) as server, server.connect() as client:
        turn = await ask(client)
        call = await upstream.call()
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        assert (await client.until("interrupt.result"))["outcome"] == "deferred"
        call.reply(200, {"paid": True})
        assert (await client.until("turn.ended"))["reason"] == "client"
    assert bodies == [b'{"paid": true}']


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_stream_that_a_turn_does_not_own_is_left_alone(upstream: Upstream, library: Any) -> None:
    """A stream that the program opened before, in no turn, survives the turns that read it."""
    async with library.AsyncClient(trust_env=False) as http:
        opening = asyncio.create_task(http.send(http.build_request("GET", upstream.url), stream=True))
        call = await upstream.call()
        call.open()
        response = await opening
        chunks = response.aiter_raw()

        async def agent(turn: Turn) -> AsyncIterator[Output]:
            yield (await anext(chunks)).decode()

        async with serving(agent) as server, server.connect() as client:
            await ask(client)
            call.event("one")
            await client.until("turn.ended")
        call.event("two")
        assert b"two" in await anext(chunks)
        assert call.open_now
        with suppress(Exception):
            await response.aclose()
        await call.gone()


async def test_the_servers_own_client_enters_a_request_once(upstream: Upstream) -> None:
    """The wrapper adds nothing to a request through `turn.http_client()`."""
    entered: list[int] = []

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        model = AsyncOpenAI(base_url=upstream.url, api_key="none", http_client=turn.http_client())
        async for text in careless(model):
            yield text
        entered.append(turn._host._streams.entered)  # type: ignore[attr-defined]

    async with serving(agent) as server, server.connect() as client:
        await ask(client)
        (await upstream.call()).answer("fine")
        await client.until("turn.ended")
    assert entered == [2]  # the request in flight and its body


async def test_a_download_of_a_tool_in_the_background_goes_on(upstream: Upstream) -> None:
    """A tool with `on_interrupt="finish"` runs outside the turn's context, as its author asked."""
    bodies: list[bytes] = []

    @tool(on_interrupt="finish")
    async def download() -> str:
        """Download a file."""
        async with (
            httpx2.AsyncClient(trust_env=False) as http,
            http.stream("GET", upstream.url) as response,
        ):
            bodies.append(await response.aread())
        return "done"

    async def agent(turn: Turn) -> AsyncIterator[Output]:
        call = NamedCall(turn.tools.claim(), "download", "{}")
        async for output in ToolRunner(turn, {"download": download}, [call]).outputs():
            yield output

    async with serving(agent) as server, server.connect() as client:
        turn = await ask(client)
        call = await upstream.call()
        await client.send({"type": "interrupt", "id": "x", "turn_id": turn})
        await client.until("turn.ended")
        call.reply(200, "file")
        await until(lambda: bodies, "the download")
    assert bodies == [b'"file"']
